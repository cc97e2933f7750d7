//go:build verbs && cgo && linux

package verbs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bell is an endpoint's doorbell: an epoll descriptor over the completion channel, which the kernel makes readable when
// an armed completion queue gets something, and an eventfd, for what connections' goroutines have to say.
type bell struct {
	fd   int // epoll
	soft int // eventfd: readable while a ring was not consumed that came after arm

	mu     sync.Mutex
	rang   bool // since the last arm or wait
	armed  bool
	raised bool // soft is readable
	closed bool

	waiting sync.Mutex // held in wait, so that close does not take fd away under it
	poll    [1]unix.PollFd
}

func newBell(channel int) (_ *bell, err error) {
	b := &bell{fd: -1, soft: -1}
	defer func() {
		if err != nil {
			b.closeAll()
			err = fmt.Errorf("verbs: doorbell: %w", err)
		}
	}()
	if b.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if b.soft, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, err
	}
	for _, fd := range []int{channel, b.soft} {
		if err = unix.EpollCtl(b.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, err
		}
	}
	b.poll[0] = unix.PollFd{Fd: int32(b.fd), Events: unix.POLLIN}
	return b, nil
}

// ring: any goroutine.
func (b *bell) ring() {
	b.mu.Lock()
	if !b.rang && b.armed && !b.closed {
		b.signal()
	}
	b.rang = true
	b.mu.Unlock()
}

// heard notes a ring that the owner itself found in a completion queue: nobody has to be woken.
func (b *bell) heard() {
	b.mu.Lock()
	b.rang = true
	b.mu.Unlock()
}

// signal makes soft readable. Under mu.
func (b *bell) signal() {
	b.raised = true
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(b.soft, one[:])
}

// consume forgets what rang.
func (b *bell) consume() {
	b.mu.Lock()
	if b.raised && !b.closed {
		var count [8]byte
		unix.Read(b.soft, count[:])
		b.raised = false
	}
	b.rang, b.armed = false, false
	b.mu.Unlock()
}

// arm is false, and consumes, if something rang.
func (b *bell) arm() bool {
	b.mu.Lock()
	if !b.rang && !b.closed {
		b.armed = true
		b.mu.Unlock()
		return true
	}
	b.mu.Unlock()
	b.consume()
	return false
}

// disarm keeps what rang for the next arm.
func (b *bell) disarm() {
	b.mu.Lock()
	b.armed = false
	b.mu.Unlock()
}

// sleep parks the thread until fd is readable or d has passed. False: the bell is closed.
func (b *bell) sleep(d time.Duration) bool {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return false
	}
	until := time.Now().Add(d)
	for d > 0 {
		timeout := unix.NsecToTimespec(int64(d))
		if _, err := unix.Ppoll(b.poll[:], &timeout, nil); err != unix.EINTR { // Go interrupts threads with signals
			break
		}
		d = time.Until(until)
	}
	return true
}

// stop ends a wait and all later ones.
func (b *bell) stop() {
	b.mu.Lock()
	b.closed = true
	b.signal()
	b.mu.Unlock()
}

// close is after stop.
func (b *bell) close() error {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	return b.closeAll()
}

func (b *bell) closeAll() (err error) {
	for _, fd := range []int{b.fd, b.soft} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}
