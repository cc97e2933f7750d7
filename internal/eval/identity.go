//go:build linux

package eval

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/resp"
)

// Identity is who answers at an address, by its own INFO.
type Identity struct {
	Addr    string
	Name    string // "whale" or "redis"
	Version string
	Role    string // as ROLE names it: master or slave; primary or backup
	PID     int
}

// Primary says whether writes are executed there.
func (id Identity) Primary() bool { return id.Role == "master" || id.Role == "primary" }

func (id Identity) String() string {
	return fmt.Sprintf("%s %s at %s, %s, pid %d", id.Name, id.Version, id.Addr, id.Role, id.PID)
}

// Identify asks the server at addr; t is nil for one without TLS.
func Identify(addr string, t *TLS) (Identity, error) {
	id := Identity{Addr: addr}
	c, err := dialControl(addr, t)
	if err != nil {
		return id, err
	}
	defer c.close()
	text, err := c.do("INFO")
	if err != nil {
		err = fmt.Errorf("%s: INFO: %w", addr, err)
		if t == nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET)) {
			err = fmt.Errorf("%w; if it speaks TLS, give --tls-cert, --tls-key and --tls-ca", err)
		}
		return id, err
	}
	info := parseInfo(text)
	id.Role = info["role"]
	id.PID, _ = strconv.Atoi(info["process_id"])
	// Whale also tells a redis_version, for clients that ask for features by it.
	if v := info["whale_version"]; v != "" {
		id.Name, id.Version = "whale", v
	} else if v := info["redis_version"]; v != "" {
		id.Name, id.Version = "redis", v
	} else {
		return id, fmt.Errorf("%s: INFO names neither a whale_version nor a redis_version", addr)
	}
	return id, nil
}

func parseInfo(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[k] = v
		}
	}
	return m
}

// control is a blocking connection for the few requests besides the load.
type control struct {
	conn net.Conn
	r    *resp.ReplyReader
	addr string
	tls  *TLS
}

func dialControl(addr string, t *TLS) (*control, error) {
	c, err := net.DialTimeout("tcp", addr, dialLimit)
	if err == nil && t != nil {
		c, err = t.wrap(c, addr)
	}
	if err != nil {
		return nil, err
	}
	return &control{conn: c, r: resp.NewReplyReader(c), addr: addr, tls: t}, nil
}

func (c *control) close() { c.conn.Close() }

// do sends a request and returns the text of its reply, which must be a string or a number; within ten seconds.
func (c *control) do(args ...string) (string, error) {
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, werr := c.conn.Write(resp.AppendCommand(nil, args...))
	if werr != nil && c.tls == nil {
		return "", werr
	}
	reply, err := c.r.Next() // with TLS also after an error: why the server has closed may be there to be read
	if refused := c.tls.refusal(c.addr, err); refused != nil {
		return "", refused
	}
	if err = cmp.Or(werr, err); err != nil {
		return "", err
	}
	if err := reply.Err(); err != nil {
		return "", err
	}
	switch reply.Kind {
	case resp.Status, resp.Integer, resp.Bulk, resp.Verbatim:
		return string(reply.Str), nil
	}
	return "", fmt.Errorf("a reply of kind %q is not what %s is answered with", byte(reply.Kind), args[0])
}

// parseFields reads "k=v,k=v", as the lines about replicas in INFO are written.
func parseFields(line string) map[string]string {
	m := map[string]string{}
	for field := range strings.SplitSeq(line, ",") {
		if k, v, ok := strings.Cut(field, "="); ok {
			m[k] = v
		}
	}
	return m
}
