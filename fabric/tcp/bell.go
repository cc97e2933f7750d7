package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bell is an endpoint's doorbell, inside one process: connections' goroutines ring it, the owner parks on it, and on the
// replies to its own requests.
type bell struct {
	fd    int // epoll: readable while event is, or an outlet
	event int // eventfd: readable while a ring was not consumed that came after arm

	mu     sync.Mutex
	rang   bool // since the last arm or wait
	armed  bool
	raised bool // event is readable
	closed bool

	parked  atomic.Uint64 // waits so far
	waiting sync.Mutex    // held in wait, so that close does not take fd away under it
	poll    [1]unix.PollFd
}

func newBell() (*bell, error) {
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tcp: eventfd: %w", err)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)})
	}
	if err != nil {
		unix.Close(event)
		unix.Close(fd)
		return nil, fmt.Errorf("tcp: epoll: %w", err)
	}
	return &bell{fd: fd, event: event, poll: [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}, nil
}

// hear lets what can be read from an outlet ring, as long as it can.
func (b *bell) hear(o *outlet) error {
	return unix.EpollCtl(b.fd, unix.EPOLL_CTL_ADD, o.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(o.fd)})
}

// ignore ends hear. The outlet is not closed yet.
func (b *bell) ignore(o *outlet) { unix.EpollCtl(b.fd, unix.EPOLL_CTL_DEL, o.fd, nil) }

func (b *bell) ring() {
	b.mu.Lock()
	if !b.rang && b.armed && !b.closed {
		b.signal()
	}
	b.rang = true
	b.mu.Unlock()
}

// signal makes event readable. Under mu.
func (b *bell) signal() {
	b.raised = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(b.event, one[:])
}

// consume forgets what rang. Under mu.
func (b *bell) consume() {
	if b.raised && !b.closed {
		var count [8]byte
		unix.Read(b.event, count[:])
		b.raised = false
	}
	b.rang, b.armed = false, false
}

func (b *bell) arm() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rang || b.closed {
		b.consume()
		return false
	}
	b.armed = true
	return true
}

// disarm keeps what rang for the next arm.
func (b *bell) disarm() {
	b.mu.Lock()
	b.armed = false
	b.mu.Unlock()
}

// wait parks the thread, not only the goroutine: waking up through Go's poller takes longer.
func (b *bell) wait(d time.Duration) {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return
	}
	sleep(b.poll[:], d)
	b.parked.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consume()
}

// close ends a wait and all later ones.
func (b *bell) close() error {
	b.mu.Lock()
	b.closed = true
	b.signal()
	b.mu.Unlock()
	b.waiting.Lock()
	defer b.waiting.Unlock()
	return errors.Join(unix.Close(b.fd), unix.Close(b.event))
}
