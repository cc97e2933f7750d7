package tcp

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/words"
	"whale/pmem"
)

const (
	keyBits    = 10
	keyEntries = 1 << keyBits // registrations at one time
	keyMask    = keyEntries - 1

	allRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush
)

// registration is memory under a key. Who works on the memory has acquired it, for the time of a bounded copy and never
// while waiting for anything, so that a withdrawal is exact and soon:
//
//	user:  users += 1,      then look at revoked; set: users -= 1, and the key is no good
//	owner: revoked := true, then look at users; 0: nobody works on it and nobody will
type registration struct {
	key    fabric.Key
	base   unsafe.Pointer
	off, n uint64 // in mem
	mem    pmem.Memory
	rights fabric.Rights
	// flushes: the memory's domain is ADR, in which a store needs more than to be made.
	flushes bool

	users   atomic.Int64
	revoked atomic.Bool
}

func (r *registration) acquire() bool {
	r.users.Add(1)
	if r.revoked.Load() {
		r.users.Add(-1)
		return false
	}
	return true
}

func (r *registration) release() { r.users.Add(-1) }

// fill copies b to an offset, and releases: also when the memory is gone, which is a fault.
func (r *registration) fill(off uint64, b []byte) {
	defer r.release()
	words.Copy(r.at(off), unsafe.Pointer(unsafe.SliceData(b)), uint64(len(b)))
}

// copyOut is the way back.
func (r *registration) copyOut(b []byte, off uint64) {
	defer r.release()
	words.Copy(unsafe.Pointer(unsafe.SliceData(b)), r.at(off), uint64(len(b)))
}

// at is the place of an offset. At the end of the memory there is none: a pointer there would be to something else.
func (r *registration) at(off uint64) unsafe.Pointer {
	if off >= r.n {
		return r.base
	}
	return unsafe.Add(r.base, off)
}

var (
	errNoKey   = errors.New("unknown or revoked key")
	errOutside = errors.New("outside the registration")
	errRight   = errors.New("the key does not give that right")
)

// acquire finds n bytes at off of the memory under key, and holds it: the caller releases it.
func (e *Endpoint) acquire(key fabric.Key, off, n uint64) (*registration, error) {
	r := e.registrations[key&keyMask].Load()
	if r == nil || r.key != key || !r.acquire() {
		return nil, errNoKey
	}
	if off > r.n || n > r.n-off {
		r.release()
		return nil, errOutside
	}
	return r, nil
}

// local is [Endpoint.acquire] for this endpoint's own use.
func (e *Endpoint) local(s fabric.Span, n uint64) (*registration, error) {
	r, err := e.acquire(s.Key, s.Off, n)
	if err != nil {
		return nil, fmt.Errorf("%w: [%d, %d+%d) of key %#x: %w", fabric.ErrLocal, s.Off, s.Off, n, s.Key, err)
	}
	return r, nil
}

// remote is [Endpoint.acquire] for a peer that needs one of the rights.
func (e *Endpoint) remote(key fabric.Key, off, n uint64, rights fabric.Rights) (*registration, error) {
	r, err := e.acquire(key, off, n)
	if err == nil && r.rights&rights == 0 {
		r.release()
		if err = errRight; r.rights == fabric.LocalOnly {
			err = errNoKey
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: [%d, %d+%d) of key %#x: %w", fabric.ErrAccess, off, off, n, key, err)
	}
	return r, nil
}

// Register implements [fabric.Endpoint]. Any memory will do.
func (e *Endpoint) Register(m pmem.Memory, off, n uint64, rights fabric.Rights) (fabric.Key, error) {
	b := m.Bytes()
	size := uint64(len(b))
	switch {
	case rights&^allRights != 0:
		return 0, fmt.Errorf("tcp: register: unknown rights %#x", rights&^allRights)
	case n == 0 || off > size || n > size-off:
		return 0, fmt.Errorf("tcp: register: [%d, %d+%d) is empty or outside the memory of %d bytes", off, off, n, size)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, fabric.ErrClosed
	}
	for i := range e.registrations {
		if e.registrations[i].Load() != nil {
			continue
		}
		e.serial++
		key := fabric.Key(e.serial<<keyBits | uint64(i))
		e.registrations[i].Store(&registration{key: key, base: unsafe.Pointer(&b[off]), off: off, n: n, mem: m, rights: rights, flushes: m.Domain() == pmem.ADR})
		return key, nil
	}
	return 0, fmt.Errorf("tcp: this endpoint has %d registrations, which is the most: revoke some", keyEntries)
}

// Revoke implements [fabric.Endpoint].
func (e *Endpoint) Revoke(key fabric.Key) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.registrations[key&keyMask].Load()
	if r == nil || r.key != key {
		return nil
	}
	r.revoked.Store(true)
	if r.users.Load() != 0 {
		return fabric.ErrInFlight
	}
	e.registrations[key&keyMask].Store(nil)
	return nil
}
