//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"whale/internal/resp"
)

// conn is a client in its simplest form: one request, one reply, and the deadline after which nobody would wait.
type conn struct {
	addr  string
	c     net.Conn
	r     *resp.ReplyReader
	out   []byte
	limit time.Duration
}

// errNil is the reply that says that there is nothing.
var errNil = errors.New("nil")

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{addr: addr, c: c, r: resp.NewReplyReader(c), limit: 20 * time.Second}, nil
}

func (c *conn) close() { c.c.Close() }

// send hands over a request; receive waits for a reply, whose strings are valid until the next.
func (c *conn) send(args ...string) error {
	c.c.SetDeadline(time.Now().Add(c.limit))
	c.out = resp.AppendCommand(c.out[:0], args...)
	_, err := c.c.Write(c.out)
	return err
}

func (c *conn) receive() (resp.Reply, error) {
	r, err := c.r.Next()
	if err != nil {
		return r, fmt.Errorf("%s: %w", c.addr, err)
	}
	return r, nil
}

// replyError is an error that the server answered; other errors are of the connection.
type replyError string

func (e replyError) Error() string { return string(e) }

// text asks and returns the reply, which is a string or a number; errNil for none.
func (c *conn) text(args ...string) (string, error) {
	if err := c.send(args...); err != nil {
		return "", err
	}
	return c.receiveText()
}

func (c *conn) receiveText() (string, error) {
	r, err := c.receive()
	switch {
	case err != nil:
		return "", err
	case r.Err() != nil:
		return "", replyError(r.Err().Error())
	case r.Kind == resp.Null:
		return "", errNil
	case r.Kind == resp.Array:
		var parts []string
		for _, e := range r.Elems {
			parts = append(parts, string(e.Str))
		}
		return strings.Join(parts, " "), nil
	}
	return string(r.Str), nil
}
