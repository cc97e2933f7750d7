//go:build linux

// Package poller waits for many file descriptors on one goroutine, and reads and writes them without blocking.
//
// Why not Go's own network poller: it parks one goroutine for each connection and pays, for each request, a read that
// finds nothing, a park and a wake-up. One loop that serves all ready connections in a batch needs two system calls a
// request, and its batches are what the replication below it wants anyway.
package poller

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Interest is what to wait for.
type Interest uint32

const (
	Readable Interest = unix.EPOLLIN | unix.EPOLLRDHUP
	Writable Interest = unix.EPOLLOUT

	// Edge, beside others: what is ready is reported once, and again only when more comes or after Modify. The kernel then
	// asks each descriptor once a report and not twice. Who reads less than there is has to call Modify, and so has who was
	// told that it Ended and has not read the end: behind the last bytes nothing more comes.
	Edge Interest = unix.EPOLLET
)

// Event is a descriptor that is ready.
type Event struct {
	FD       int
	Readable bool // also: the peer closed, or an error is pending; Read tells which
	Ended    bool // the peer sends no more, or an error is pending: behind what there is to read, Read tells
	Writable bool
}

// Poller is an epoll instance, level-triggered but for what is watched with Edge. Add, Modify and Remove may be called from any goroutine; Wait belongs to one.
type Poller struct {
	fd  int
	raw []unix.EpollEvent
}

// New makes a poller that returns at most batch events a Wait.
func New(batch int) (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Poller{fd: fd, raw: make([]unix.EpollEvent, batch)}, nil
}

// Close releases the poller; the descriptors in it stay open.
func (p *Poller) Close() error { return unix.Close(p.fd) }

// Add starts to watch fd.
func (p *Poller) Add(fd int, i Interest) error { return p.ctl(unix.EPOLL_CTL_ADD, fd, i) }

// Modify changes what is waited for.
func (p *Poller) Modify(fd int, i Interest) error { return p.ctl(unix.EPOLL_CTL_MOD, fd, i) }

// Remove stops watching fd. A closed descriptor removes itself.
func (p *Poller) Remove(fd int) error { return p.ctl(unix.EPOLL_CTL_DEL, fd, 0) }

func (p *Poller) ctl(op, fd int, i Interest) error {
	ev := unix.EpollEvent{Events: uint32(i), Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, op, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl(%d, fd %d): %w", op, fd, err)
	}
	return nil
}

// Wait appends the ready descriptors to dst. d < 0 waits for ever, 0 not at all. An interrupted wait returns early with
// none.
func (p *Poller) Wait(dst []Event, d time.Duration) ([]Event, error) {
	// First without blocking, as a raw system call: the scheduler need not hear of it. Only a real wait enters the
	// kernel through the runtime, which may then give the processor to another goroutine.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.raw[0])), uintptr(len(p.raw)), 0, 0, 0)
	if errno == 0 && n == 0 && d != 0 {
		ms := -1
		if d > 0 {
			ms = int((d + time.Millisecond - 1) / time.Millisecond)
		}
		k, err := unix.EpollWait(p.fd, p.raw, ms)
		if err == unix.EINTR {
			return dst, nil
		}
		if err != nil {
			return dst, fmt.Errorf("epoll_wait: %w", err)
		}
		n = uintptr(k)
	} else if errno != 0 && errno != unix.EINTR {
		return dst, fmt.Errorf("epoll_wait: %w", errno)
	} else if errno != 0 {
		n = 0
	}
	for _, e := range p.raw[:n] {
		const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		dst = append(dst, Event{
			FD: int(e.Fd), Readable: e.Events&(unix.EPOLLIN|end) != 0, Ended: e.Events&end != 0, Writable: e.Events&unix.EPOLLOUT != 0,
		})
	}
	return dst, nil
}

// Read reads from a non-blocking descriptor. n = 0 with a nil error is the end of the stream; EAGAIN means that nothing is
// there now.
func Read(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, unix.EINVAL
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		runtime.KeepAlive(b)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Write writes to a non-blocking descriptor; it may take a part only. EAGAIN means that nothing can be taken now.
func Write(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		runtime.KeepAlive(b)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
