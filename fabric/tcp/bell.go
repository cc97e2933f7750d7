package tcp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bell is an endpoint's doorbell, inside one process: connections' goroutines ring it, the owner parks on it.
type bell struct {
	fd int // eventfd: readable while a ring was not consumed that came after arm

	mu     sync.Mutex
	rang   bool // since the last arm or wait
	armed  bool
	raised bool // fd is readable
	closed bool

	waiting sync.Mutex // held in wait, so that close does not take fd away under it
	poll    [1]unix.PollFd
}

func newBell() (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tcp: eventfd: %w", err)
	}
	return &bell{fd: fd, poll: [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}, nil
}

func (b *bell) ring() {
	b.mu.Lock()
	if !b.rang && b.armed && !b.closed {
		b.signal()
	}
	b.rang = true
	b.mu.Unlock()
}

// signal makes fd readable. Under mu.
func (b *bell) signal() {
	b.raised = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(b.fd, one[:])
}

// consume forgets what rang. Under mu.
func (b *bell) consume() {
	if b.raised && !b.closed {
		var count [8]byte
		unix.Read(b.fd, count[:])
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
	b.sleep(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consume()
}

// sleep returns when fd is readable or d has passed.
func (b *bell) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	until := time.Now().Add(d)
	for d > 0 {
		timeout := unix.NsecToTimespec(int64(d))
		if _, err := unix.Ppoll(b.poll[:], &timeout, nil); err != unix.EINTR { // Go interrupts threads with signals
			return
		}
		d = time.Until(until)
	}
}

// close ends a wait and all later ones.
func (b *bell) close() error {
	b.mu.Lock()
	b.closed = true
	b.signal()
	b.mu.Unlock()
	b.waiting.Lock()
	defer b.waiting.Unlock()
	return unix.Close(b.fd)
}
