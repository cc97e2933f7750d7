//go:build linux

package eval

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

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

// Identify asks the server at addr.
func Identify(addr string) (Identity, error) {
	id := Identity{Addr: addr}
	c, err := dialControl(addr)
	if err != nil {
		return id, err
	}
	defer c.close()
	text, err := c.do("INFO")
	if err != nil {
		return id, fmt.Errorf("%s: INFO: %w", addr, err)
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
}

func dialControl(addr string) (*control, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &control{conn: c, r: resp.NewReplyReader(c)}, nil
}

func (c *control) close() { c.conn.Close() }

// do sends a request and returns the text of its reply, which must be a string or a number; within ten seconds.
func (c *control) do(args ...string) (string, error) {
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.conn.Write(resp.AppendCommand(nil, args...)); err != nil {
		return "", err
	}
	reply, err := c.r.Next()
	if err != nil {
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
