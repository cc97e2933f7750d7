package shm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"whale/pmem"
)

// bell is this endpoint's doorbell. That no ring is lost rests on the order of four accesses, all of them sequentially
// consistent:
//
//	owner: parked := 1, then look at rings; unchanged: sleep on the eventfd
//	peer:  rings += 1,  then look at parked; set: write to the eventfd
//
// If the owner's look missed the ring, the ring came after parked := 1, and the peer sees it. What the ring announces
// was stored before the ring; and rings is taken as seen before the owner polls, never after.
type bell struct {
	ringer
	seen uint64 // rings up to here were announced to the caller, who has polled since or is about to
	poll [1]unix.PollFd

	mu     sync.Mutex // held in arm and wait: the words and fd are there as long
	closed atomic.Bool
}

func newBell(words *doorbell) (*bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("shm: eventfd: %w", err)
	}
	words.parked.Store(0)
	b := &bell{ringer: ringer{words: words, fd: fd}, seen: words.rings.Load()}
	b.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	return b, nil
}

// ringer is what it takes to ring a doorbell, one's own or a peer's.
type ringer struct {
	words *doorbell
	fd    int    // eventfd, which the owner and all its peers share; -1: none yet
	gap   func() // tests widen the gap between two accesses here; nil otherwise
}

// ring announces what was stored before to the owner of the words.
func (r *ringer) ring() {
	r.words.rings.Add(1)
	if r.gap != nil {
		r.gap()
	}
	if r.words.parked.Load() != 0 {
		write(r.fd)
	}
}

// write makes an eventfd readable. EAGAIN says that its counter is full, so it is.
func write(fd int) {
	one := uint64(1)
	unix.Write(fd, (*[8]byte)(unsafe.Pointer(&one))[:])
}

// arm: a control file that somebody shortened has no doorbell; then the caller goes on polling and finds its connections
// broken by those who notice.
func (b *bell) arm() (armed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fault error
	defer pmem.Catch(pmem.Arm(), &fault)
	if b.closed.Load() {
		return false
	}
	b.words.parked.Swap(1) // a full fence
	if b.gap != nil {
		b.gap()
	}
	if rings := b.words.rings.Load(); rings != b.seen {
		b.seen = rings
		b.words.parked.Store(0)
		return false
	}
	return true
}

// disarm leaves the eventfd alone: a peer that saw parked set writes it sooner or later, and the owner finds it readable
// then; for one that did not, rings says false at the next arm.
func (b *bell) disarm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.Load() {
		pmem.Guard(func() { b.words.parked.Store(0) })
	}
}

func (b *bell) wait(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return
	}
	b.sleep(d)
	var count [8]byte
	unix.Read(b.fd, count[:]) // EAGAIN: d has passed
	pmem.Guard(func() {       // as in arm
		b.words.parked.Store(0)
		b.seen = b.words.rings.Load()
	})
}

// sleep returns when fd is readable or d has passed. It does not consume the ring.
func (b *bell) sleep(d time.Duration) {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	for {
		timeout := unix.NsecToTimespec(int64(max(d, 0)))
		_, err := unix.Ppoll(b.poll[:], &timeout, nil)
		if err != unix.EINTR || d <= 0 { // Go interrupts threads with signals
			return
		}
		d = time.Until(until)
	}
}

// close ends a wait and all later ones.
func (b *bell) close() error {
	b.closed.Store(true)
	write(b.fd)
	b.mu.Lock()
	defer b.mu.Unlock()
	return unix.Close(b.fd)
}
