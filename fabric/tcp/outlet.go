package tcp

import (
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outlet is the socket of a connection's requests: frames go out, replies come in. It is out of Go's network poller: the
// goroutine that owns the connection reads and writes it by itself, and parks on it, so that an answer wakes up that thread
// and no other one. At most one goroutine reads at a time, and one writes.
type outlet struct {
	fd    int
	users atomic.Int64 // 1 for being open; fd is closed with the last
	shut  sync.Once

	late  chan struct{} // closed by hurry
	haste sync.Once

	session *tls.Conn  // nil: no TLS. It reads and writes the descriptor through cipher.
	plain   []byte     // scratch of send
	mu      sync.Mutex // of what follows: a reader may have to answer a message of TLS itself
	sealed  []byte     // encrypted, and not yet taken by the socket
	hold    bool       // more is about to be encrypted, and will go to the socket with it
}

// errNothing: there is nothing to read at the moment.
var errNothing = errors.New("nothing has come")

// detach takes the descriptor out of a socket, which is of no more use.
func detach(s socket) (*outlet, error) {
	raw, err := s.tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	o := &outlet{late: make(chan struct{})}
	o.users.Store(1)
	if cerr := raw.Control(func(fd uintptr) { o.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	if s.under != nil {
		s.under.Conn = cipher{o}
		o.session = s.Conn.(*tls.Conn)
		o.plain = make([]byte, 0, maxRecord)
	}
	if err := s.tcp.Close(); err != nil { // of this descriptor: the connection lives on in the other
		o.Close()
		return nil, err
	}
	return o, nil
}

const (
	maxRecord  = 16 << 10 // bytes that TLS encrypts at once
	holdAtMost = 64 << 10 // encrypted bytes that wait for more: the peer may begin with them
)

// use keeps the descriptor from being closed, and given to somebody else, until unuse. False: it is closed.
func (o *outlet) use() bool {
	for {
		n := o.users.Load()
		if n == 0 {
			return false
		}
		if o.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (o *outlet) unuse() {
	if o.users.Add(-1) == 0 {
		unix.Close(o.fd)
	}
}

// Close ends both at once.
func (o *outlet) Close() error {
	o.shut.Do(func() {
		unix.Shutdown(o.fd, unix.SHUT_RDWR)
		o.unuse()
	})
	return nil
}

// refuse ends all writing, also a Write that waits. The peer sees the end of the stream.
func (o *outlet) refuse() {
	if o.use() {
		unix.Shutdown(o.fd, unix.SHUT_WR) // wakes up whoever waits for room, too
		o.unuse()
	}
}

// hurry says that reading ends in lastWords: see conn.listen.
func (o *outlet) hurry() { o.haste.Do(func() { close(o.late) }) }

// Read never waits: errNothing.
func (o *outlet) Read(b []byte) (int, error) {
	if o.session == nil {
		return o.receive(b)
	}
	n, err := o.session.Read(b)
	if errors.Is(err, errNothing) {
		err = errNothing
	}
	return n, err
}

// receive reads the socket.
func (o *outlet) receive(b []byte) (int, error) {
	if !o.use() {
		return 0, net.ErrClosed
	}
	defer o.unuse()
	n, err := read(o.fd, b)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, errNothing
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// writev hands pieces to the socket and does not wait. It returns how many bytes were taken. The Go runtime is not told
// (RawSyscall): it would take a call of more than 20 us for one that waits, and start another thread in its stead.
func (o *outlet) writev(pieces []unix.Iovec) (int, error) {
	if !o.use() {
		return 0, net.ErrClosed
	}
	defer o.unuse()
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(o.fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))), uintptr(len(pieces)))
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// send sends what can be sent of the pieces without waiting, and returns how many bytes it is done with. With TLS these
// are all, and more says that flush has to be called.
func (o *outlet) send(pieces []unix.Iovec) (n int, more bool, err error) {
	if o.session == nil {
		n, err = o.writev(pieces)
		return n, false, err
	}
	o.mu.Lock()
	o.hold = true
	o.mu.Unlock()
	for _, p := range pieces {
		for b := unsafe.Slice(p.Base, p.Len); len(b) > 0; {
			took := copy(o.plain[len(o.plain):cap(o.plain)], b)
			o.plain, b = o.plain[:len(o.plain)+took], b[took:]
			n += took
			if len(o.plain) == cap(o.plain) {
				err = errors.Join(err, o.seal())
			}
		}
	}
	err = errors.Join(err, o.seal())
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hold = false
	err = errors.Join(err, o.release())
	return n, len(o.sealed) > 0, err
}

// release lets the socket take what it takes of what is encrypted. Under mu.
func (o *outlet) release() error {
	if len(o.sealed) == 0 {
		return nil
	}
	n, err := o.take(o.sealed)
	o.sealed = o.sealed[:copy(o.sealed, o.sealed[n:])]
	return err
}

// seal encrypts what is in plain.
func (o *outlet) seal() error {
	if len(o.plain) == 0 {
		return nil
	}
	_, err := o.session.Write(o.plain)
	o.plain = o.plain[:0]
	return err
}

// Write sends b, and waits until the socket has taken it.
func (o *outlet) Write(b []byte) (int, error) {
	if o.session == nil {
		return o.insist(b)
	}
	n, err := o.session.Write(b)
	return n, errors.Join(err, o.flush())
}

// insist writes all of b to the socket.
func (o *outlet) insist(b []byte) (wrote int, err error) {
	for wrote < len(b) {
		n, err := o.take(b[wrote:])
		if wrote += n; err != nil {
			return wrote, err
		}
		if n == 0 {
			o.await(unix.POLLOUT, math.MaxInt64)
		}
	}
	return wrote, nil
}

// take writes what the socket takes of b, which is not empty.
func (o *outlet) take(b []byte) (int, error) {
	piece := [1]unix.Iovec{{Base: &b[0]}}
	piece[0].SetLen(len(b))
	return o.writev(piece[:])
}

// flush sends what is encrypted, and waits until the socket has taken it.
func (o *outlet) flush() error {
	for {
		o.mu.Lock()
		err := o.release()
		left := len(o.sealed)
		o.mu.Unlock()
		if err != nil || left == 0 {
			return err
		}
		o.await(unix.POLLOUT, math.MaxInt64)
	}
}

// cipher is what crypto/tls sees of an outlet: reads that do not wait, and writes that never do because they end in
// memory. The sender bounds how much: see sender.push.
type cipher struct{ *outlet }

func (c cipher) Read(b []byte) (int, error) {
	n, err := c.receive(b)
	if err == errNothing {
		err = passing{err} // crypto/tls can go on after such an error, and after no other one
	}
	return n, err
}

func (c cipher) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := len(c.sealed)
	c.sealed = append(c.sealed, b...)
	if c.hold && len(c.sealed) < holdAtMost || waiting > 0 && !c.hold {
		return len(b), nil
	}
	return len(b), c.release()
}

func (c cipher) LocalAddr() net.Addr              { return nil }
func (c cipher) RemoteAddr() net.Addr             { return nil }
func (c cipher) SetDeadline(time.Time) error      { return nil }
func (c cipher) SetReadDeadline(time.Time) error  { return nil }
func (c cipher) SetWriteDeadline(time.Time) error { return nil }

// passing is a net.Error that passes.
type passing struct{ error }

func (p passing) Unwrap() error   { return p.error }
func (p passing) Timeout() bool   { return true }
func (p passing) Temporary() bool { return true }

// under is what lies below a tls.Conn. It is exchanged when the connection is set up.
type under struct{ net.Conn }

// await returns when the socket is readable or writable, or has ended, or d has passed.
func (o *outlet) await(events int16, d time.Duration) {
	if !o.use() {
		return
	}
	defer o.unuse()
	sleep([]unix.PollFd{{Fd: int32(o.fd), Events: events}}, d)
}

// sleep returns when a descriptor is ready or d has passed.
func sleep(fds []unix.PollFd, d time.Duration) {
	if d <= 0 {
		return
	}
	until := time.Now().Add(d)
	for d > 0 {
		timeout := unix.NsecToTimespec(int64(d))
		if _, err := unix.Ppoll(fds, &timeout, nil); err != unix.EINTR { // Go interrupts threads with signals
			return
		}
		d = time.Until(until)
	}
}
