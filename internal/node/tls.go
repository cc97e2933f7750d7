package node

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
)

const (
	handshakeLimit = 10 * time.Second // from a client's connection to the end of its handshake
	sealed         = 64 << 10         // bytes of replies that are encrypted before the socket has taken those before them
	intake         = 32 << 10         // bytes read from a socket at once
)

// secure is the TLS of one client's connection. The handshake runs on a goroutine of its own, which may wait; from then
// on the connection belongs to its reactor, and nothing waits: crypto/tls reads from the socket what is there, takes
// "nothing" for a passing error, and writes into memory.
type secure struct {
	net.Conn // nil: crypto/tls calls none but the methods below
	session  *tls.Conn
	fd       int
	shaking  *os.File // a duplicate of fd, through which the handshake waits; nil afterwards
	scratch  []byte   // where to read to, intake bytes that all connections of a reactor share: during read only
	in       []byte   // read, and not yet taken by crypto/tls: a part of scratch, and of rest between two calls of read
	rest     []byte
	dry      bool   // the last read took all that the socket had
	out      []byte // encrypted, and not yet taken by the socket from sent on
	sent     int
	more     bool // there may be bytes that the socket does not have any more
}

// notYet is what crypto/tls goes on after.
type notYet struct{}

func (notYet) Error() string   { return "nothing there now" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }

var _ net.Error = notYet{}

// shake does the handshake, as the server, on a socket that just connected.
func shake(fd int, config *tls.Config) (*secure, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &secure{fd: fd, shaking: os.NewFile(uintptr(twin), "client"), more: true}
	defer s.shaking.Close()
	if err := s.shaking.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return nil, err
	}
	s.session = tls.Server(s, config)
	if err := s.session.Handshake(); err != nil {
		return nil, err
	}
	s.shaking = nil
	return s, nil
}

// Read is for crypto/tls, which asks for a header, then for what belongs to it, then for more: the socket is read once.
func (s *secure) Read(b []byte) (int, error) {
	if s.shaking != nil {
		return s.shaking.Read(b)
	}
	if len(s.in) == 0 {
		if s.dry {
			return 0, notYet{}
		}
		n, err := poller.Read(s.fd, s.scratch)
		switch {
		case err == unix.EAGAIN:
			return 0, notYet{}
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		s.in, s.dry = s.scratch[:n], n < len(s.scratch)
	}
	n := copy(b, s.in)
	s.in = s.in[n:]
	return n, nil
}

// Write is for crypto/tls.
func (s *secure) Write(b []byte) (int, error) {
	if s.shaking != nil {
		return s.shaking.Write(b)
	}
	s.out = append(s.out, b...)
	return len(b), nil
}

// Close and SetWriteDeadline are for crypto/tls, too, which calls them around its last words.
func (s *secure) Close() error                     { return nil }
func (s *secure) SetWriteDeadline(time.Time) error { return nil }

// read is as poller.Read. It reads until b is full or the socket has no more. Of scratch nothing is needed afterwards.
func (s *secure) read(b, scratch []byte) (n int, err error) {
	s.scratch, s.dry = scratch, false
	defer func() {
		if s.scratch = nil; len(s.in) > 0 {
			s.rest = append(s.rest[:0], s.in...)
			s.in = s.rest
		}
	}()
	for n < len(b) {
		got, err := s.session.Read(b[n:])
		n += got
		switch {
		case err == nil:
			continue
		case errors.Is(err, error(notYet{})):
			s.more = false
			if n == 0 {
				return 0, unix.EAGAIN
			}
		case n > 0:
			s.more = true // the error will be there again
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			s.more = false
			return 0, nil
		default:
			return 0, err
		}
		return n, nil
	}
	s.more = true
	return n, nil
}

// write is as poller.Write: what it takes has been encrypted.
func (s *secure) write(b []byte) (n int, err error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.session.Write(b[:min(len(b), sealed)])
}

// flush sends what is encrypted; EAGAIN: the socket did not take all of it.
func (s *secure) flush() error {
	for s.sent < len(s.out) {
		n, err := poller.Write(s.fd, s.out[s.sent:])
		if err != nil {
			return err
		}
		s.sent += n
	}
	if s.out, s.sent = s.out[:0], 0; cap(s.out) > 2*sealed {
		s.out = nil
	}
	return nil
}

// farewell tells the client that the end is one, if the socket takes it at once.
func (s *secure) farewell() {
	s.session.CloseWrite()
	s.flush()
}

// shakers are the handshakes that run.
type shakers struct {
	mu     sync.Mutex
	count  int
	closed bool
}

// begin runs the handshake of c beside everything else, and hands c to its reactor.
func (h *shakers) begin(c *conn, config *tls.Config, r *reactor) {
	h.mu.Lock()
	h.count++
	h.mu.Unlock()
	go func() {
		s, err := shake(c.fd, config)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.count--
		if err != nil || h.closed {
			unix.Close(c.fd)
			if err != nil {
				r.log.Debug("TLS with a client", "client", c.client.Addr, "error", err)
			}
			return
		}
		c.secure = s
		r.server.remember(c)
		r.mail.put(message{client: c})
	}()
}

// running is how many there are.
func (h *shakers) running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// close: reactors take no more connections.
func (h *shakers) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
}

// intake is memory to read to what is still encrypted.
func (r *reactor) intake() []byte {
	if r.scratch == nil {
		r.scratch = make([]byte, intake)
	}
	return r.scratch
}
