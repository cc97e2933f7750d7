//go:build linux

// Package tlsconn is TLS over a socket that does not wait: what an event loop needs to speak TLS on thousands of
// connections without a goroutine for each.
//
// The handshake waits, so it is done before the loop gets the connection. From then on nothing waits: crypto/tls reads
// from the socket what is there, takes "nothing" for a passing error, and writes into memory.
package tlsconn

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
)

const (
	// Scratch is how many bytes of memory to read to are enough: a few records of TLS.
	Scratch = 32 << 10

	sealedAtMost = 64 << 10 // bytes that are encrypted before the socket has taken those before them
)

// Conn is one connection. One goroutine at a time uses it. The descriptor is the caller's, who closes it.
type Conn struct {
	session *tls.Conn
	fd      int
	shaking *os.File // a duplicate of fd, through which the handshake waits; nil afterwards
	scratch []byte   // during Read only
	in      []byte   // read, and not yet taken by crypto/tls: a part of scratch, and of rest between two calls of Read
	rest    []byte
	dry     bool   // the last read took all that the socket had
	out     []byte // encrypted, and not yet taken by the socket from sent on
	sent    int
	more    bool
}

// Server does the handshake of the side that was connected to, on a non-blocking socket. It waits, at most for limit.
func Server(fd int, config *tls.Config, limit time.Duration) (*Conn, error) {
	return shake(fd, limit, func(w wire) *tls.Conn { return tls.Server(w, config) })
}

// Client is [Server] for the side that connected; config has a ServerName. In TLS 1.3 the server looks at the client's
// certificate only after the client's handshake: its refusal comes with a later Read.
func Client(fd int, config *tls.Config, limit time.Duration) (*Conn, error) {
	return shake(fd, limit, func(w wire) *tls.Conn { return tls.Client(w, config) })
}

func shake(fd int, limit time.Duration, session func(wire) *tls.Conn) (*Conn, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	c := &Conn{fd: fd, shaking: os.NewFile(uintptr(twin), "handshake"), more: true}
	defer c.shaking.Close()
	if err := c.shaking.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	c.session = session(wire{Conn: c})
	if err := c.session.Handshake(); err != nil {
		return nil, err
	}
	c.shaking = nil
	return c, nil
}

// Read is as poller.Read. It reads until b is full or the socket has no more. scratch is memory that connections may
// share, [Scratch] bytes, say: the socket is read into it at once. Of it nothing is needed afterwards.
func (c *Conn) Read(b, scratch []byte) (n int, err error) {
	c.scratch, c.dry = scratch, false
	defer func() {
		if c.scratch = nil; len(c.in) > 0 {
			c.rest = append(c.rest[:0], c.in...)
			c.in = c.rest
		}
	}()
	for n < len(b) {
		got, err := c.session.Read(b[n:])
		n += got
		switch {
		case err == nil:
			continue
		case errors.Is(err, error(notYet{})):
			c.more = false
			if n == 0 {
				return 0, unix.EAGAIN
			}
		case n > 0:
			c.more = true // the error will be there again
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c.more = false
			return 0, nil
		default:
			return 0, err
		}
		return n, nil
	}
	c.more = true
	return n, nil
}

// More says that there may be bytes which the socket does not have any more, so that no poller tells of them: call Read
// again.
func (c *Conn) More() bool { return c.more }

// Write is as poller.Write: what it takes has been encrypted. [Conn.Flush] has to follow the last one.
func (c *Conn) Write(b []byte) (n int, err error) {
	if err := c.Flush(); err != nil {
		return 0, err
	}
	return c.session.Write(b[:min(len(b), sealedAtMost)])
}

// Flush sends what is encrypted; EAGAIN: the socket did not take all of it.
func (c *Conn) Flush() error {
	for c.sent < len(c.out) {
		n, err := poller.Write(c.fd, c.out[c.sent:])
		if err != nil {
			return err
		}
		c.sent += n
	}
	if c.out, c.sent = c.out[:0], 0; cap(c.out) > 2*sealedAtMost {
		c.out = nil
	}
	return nil
}

// Unsent is how many bytes Flush still has to send.
func (c *Conn) Unsent() int { return len(c.out) - c.sent }

// Farewell tells the peer that the end is one, if the socket takes it at once.
func (c *Conn) Farewell() {
	c.session.CloseWrite()
	c.Flush()
}

// wire is what crypto/tls sees of a Conn.
type wire struct{ *Conn }

// Read: crypto/tls asks for a header, then for what belongs to it, then for more, and the socket is read once.
func (w wire) Read(b []byte) (int, error) {
	c := w.Conn
	if c.shaking != nil {
		return c.shaking.Read(b)
	}
	if len(c.in) == 0 {
		if c.dry {
			return 0, notYet{}
		}
		n, err := poller.Read(c.fd, c.scratch)
		switch {
		case err == unix.EAGAIN:
			return 0, notYet{}
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		c.in, c.dry = c.scratch[:n], n < len(c.scratch)
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (w wire) Write(b []byte) (int, error) {
	c := w.Conn
	if c.shaking != nil {
		return c.shaking.Write(b)
	}
	c.out = append(c.out, b...)
	return len(b), nil
}

// crypto/tls sets a deadline and closes around its last words; it calls none of the others here.
func (w wire) Close() error                     { return nil }
func (w wire) LocalAddr() net.Addr              { return nil }
func (w wire) RemoteAddr() net.Addr             { return nil }
func (w wire) SetDeadline(time.Time) error      { return nil }
func (w wire) SetReadDeadline(time.Time) error  { return nil }
func (w wire) SetWriteDeadline(time.Time) error { return nil }

// notYet is what crypto/tls goes on after, as after any net.Error that passes.
type notYet struct{}

var _ net.Error = notYet{}

func (notYet) Error() string   { return "nothing there now" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }
