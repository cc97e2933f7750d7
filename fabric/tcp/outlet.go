package tcp

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outlet is the socket of a connection's requests: frames go out, replies come in.
type outlet interface {
	// Write waits until b is taken, or the outlet refuses more.
	io.Writer
	// Read fills b with what is there. It waits for something (covered), or answers errNothing (bare).
	io.Reader
	// refuse ends all writing, also a Write that waits. The peer sees the end of the stream.
	refuse()
	// hurry ends all reading in lastWords.
	hurry()
	// Close ends both at once.
	Close() error
}

// errNothing: there is nothing to read at the moment.
var errNothing = errors.New("nothing has come")

// covered is an outlet under TLS, which a goroutine reads.
type covered struct{ socket }

func (o covered) refuse() {
	o.SetWriteDeadline(time.Unix(1, 0))
	o.tcp.CloseWrite()
}

func (o covered) hurry() { o.SetReadDeadline(time.Now().Add(lastWords)) }

// bare is an outlet without TLS, taken out of Go's network poller. The goroutine that owns the connection reads it by
// itself, and parks on it: an answer wakes up that thread and no other one.
type bare struct {
	fd    int
	users atomic.Int64 // 1 for being open; fd is closed with the last
	shut  sync.Once

	late  chan struct{} // closed by hurry
	haste sync.Once
}

// detach takes the descriptor out of a socket, which is of no more use.
func detach(c *net.TCPConn) (*bare, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	o := &bare{late: make(chan struct{})}
	o.users.Store(1)
	if cerr := raw.Control(func(fd uintptr) { o.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return o, c.Close() // of this descriptor: the connection lives on in the other
}

// use keeps the descriptor from being closed, and given to somebody else, until unuse. False: it is closed.
func (o *bare) use() bool {
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

func (o *bare) unuse() {
	if o.users.Add(-1) == 0 {
		unix.Close(o.fd)
	}
}

func (o *bare) Close() error {
	o.shut.Do(func() {
		unix.Shutdown(o.fd, unix.SHUT_RDWR)
		o.unuse()
	})
	return nil
}

func (o *bare) refuse() {
	if o.use() {
		unix.Shutdown(o.fd, unix.SHUT_WR) // wakes up whoever waits for room, too
		o.unuse()
	}
}

func (o *bare) hurry() { o.haste.Do(func() { close(o.late) }) }

// Read never waits.
func (o *bare) Read(b []byte) (int, error) {
	if !o.use() {
		return 0, net.ErrClosed
	}
	defer o.unuse()
	n, err := syscall.Read(o.fd, b) // unlike unix.Read, it tells the race detector that this follows the peer's write
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, errNothing
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// writev hands pieces to the socket and does not wait. It returns how many bytes were taken.
func (o *bare) writev(pieces []unix.Iovec) (int, error) {
	if !o.use() {
		return 0, net.ErrClosed
	}
	defer o.unuse()
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(o.fd), uintptr(unsafe.Pointer(unsafe.SliceData(pieces))), uintptr(len(pieces)))
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

func (o *bare) Write(b []byte) (wrote int, err error) {
	for wrote < len(b) {
		piece := [1]unix.Iovec{{Base: &b[wrote]}}
		piece[0].SetLen(len(b) - wrote)
		n, err := o.writev(piece[:])
		if wrote += n; err != nil {
			return wrote, err
		}
		if n == 0 {
			o.await(unix.POLLOUT, math.MaxInt64)
		}
	}
	return wrote, nil
}

// await returns when the socket is readable or writable, or has ended, or d has passed.
func (o *bare) await(events int16, d time.Duration) {
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
