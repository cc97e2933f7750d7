package node

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"whale/internal/poller"
)

// mailbox hands values to the goroutine that owns it and wakes that goroutine when it is parked, once for a batch.
//
// No wake-up is lost: a sender adds its value and looks at parked under the lock; the owner looks for values and sets
// parked under the same lock. So either the owner sees the value, or the sender sees that the owner parks.
type mailbox[T any] struct {
	fd int // an eventfd, readable while a wake-up is due

	mu     sync.Mutex
	queue  []T
	parked bool
}

func newMailbox[T any]() (*mailbox[T], error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &mailbox[T]{fd: fd}, nil
}

// put may be called from any goroutine. The values are copied.
func (m *mailbox[T]) put(values ...T) {
	if len(values) == 0 {
		return
	}
	m.mu.Lock()
	m.queue = append(m.queue, values...)
	wake := m.parked
	m.parked = false
	m.mu.Unlock()
	if wake {
		m.ring()
	}
}

// take returns what has come, and keeps dst, emptied, for what comes next. Owner only.
func (m *mailbox[T]) take(dst []T) []T {
	clear(dst)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return dst[:0]
	}
	got := m.queue
	m.queue = dst[:0]
	return got
}

// park says that the owner is about to wait for fd; false: something has come meanwhile. Owner only.
func (m *mailbox[T]) park() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parked = len(m.queue) == 0
	return m.parked
}

// unpark says that the owner runs again. Owner only.
func (m *mailbox[T]) unpark() {
	m.mu.Lock()
	m.parked = false
	m.mu.Unlock()
}

func (m *mailbox[T]) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	poller.Write(m.fd, one[:]) // fails only when the counter is full, and then it is readable anyway
}

// silence makes fd unreadable until the next wake-up. Owner only.
func (m *mailbox[T]) silence() {
	var count [8]byte
	poller.Read(m.fd, count[:])
}

func (m *mailbox[T]) close() { unix.Close(m.fd) }
