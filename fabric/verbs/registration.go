//go:build verbs && cgo && linux

package verbs

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"unsafe"

	"whale/fabric"
	"whale/pmem"
)

// registration is memory under a key. A CPU of this endpoint that copies from or to it (inline bytes, messages) has
// acquired it for that time; what the card does under it ends with deregister.
//
//	user:  users += 1,      then look at revoked; set: users -= 1, and the key is no good
//	owner: revoked := true, then look at users; 0: nobody copies and nobody will
type registration struct {
	memoryRegion
	key    fabric.Key
	mem    pmem.Memory // kept from the garbage collector
	base   unsafe.Pointer
	n      uint64
	iova   uint64
	users  atomic.Int64
	revoke atomic.Bool
	ending atomic.Bool // deregister was started
}

func (r *registration) acquire() bool {
	r.users.Add(1)
	if r.revoke.Load() {
		r.users.Add(-1)
		return false
	}
	return true
}

func (r *registration) release() { r.users.Add(-1) }

// bytes are n bytes at off, for the time that r is acquired.
func (r *registration) bytes(off, n uint64) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(r.base, off)), n)
}

// local finds n bytes at s of memory registered here, and holds it: the caller releases it.
func (e *Endpoint) local(s fabric.Span, n uint64) (*registration, error) {
	r := (*e.registrations.Load())[s.Key]
	var why string
	switch {
	case r == nil:
		why = "unknown or revoked key"
	case s.Off > r.n || n > r.n-s.Off:
		why = "outside the registration"
	case !r.acquire():
		why = "revoked key"
	default:
		return r, nil
	}
	return nil, fmt.Errorf("%w: [%d, %d+%d) of key %#x: %s", fabric.ErrLocal, s.Off, s.Off, n, s.Key, why)
}

// Register implements [fabric.Endpoint]. The memory is to be mapped: device DAX, anonymous, or of a file on tmpfs; it is
// locked in memory as long. off is a multiple of 64 from an address that is one, too. The time it takes grows with the
// memory. The right RemoteFlush needs memory of the domain that the endpoint declares, or a stronger one.
func (e *Endpoint) Register(m pmem.Memory, off, n uint64, rights fabric.Rights) (fabric.Key, error) {
	b := m.Bytes()
	size := uint64(len(b))
	switch {
	case rights&^allRights != 0:
		return 0, fmt.Errorf("verbs: register: unknown rights %#x", rights&^allRights)
	case n == 0 || off > size || n > size-off:
		return 0, fmt.Errorf("verbs: register: [%d, %d+%d) is empty or outside the memory of %d bytes", off, off, n, size)
	case n > maxSpan || uint64(e.dev.about.max_mr) != 0 && n > uint64(e.dev.about.max_mr):
		return 0, fmt.Errorf("verbs: register: %d bytes are more than the device %s takes", n, e.dev.name)
	case rights&fabric.RemoteFlush != 0 && m.Domain() < e.domain:
		return 0, fmt.Errorf("verbs: register: flushes reach the domain %v in this memory, and this endpoint declares %v to its peers", m.Domain(), e.domain)
	}
	if _, heap := m.(*pmem.HeapMemory); heap {
		return 0, errors.New("verbs: register: memory on Go's heap: expected mapped memory (pmem.Anonymous, pmem.Map)")
	}
	base := unsafe.Pointer(&b[off])
	if uintptr(base)%startUnit != 0 {
		return 0, fmt.Errorf("verbs: register: offset %d of memory at %p is not at a multiple of %d bytes", off, &b[0], startUnit)
	}
	if err := checkMemory(m, uintptr(base), n); err != nil {
		return 0, fmt.Errorf("verbs: register: %w", err)
	}
	access := uint32(accessLocalWrite)
	if rights&fabric.RemoteRead != 0 {
		access |= accessRead
	}
	if rights&fabric.RemoteWrite != 0 {
		access |= accessWrite
	}
	if rights&fabric.RemoteAtomic != 0 && e.features&atomics != 0 {
		access |= accessAtomic
	}
	if rights != 0 && e.features&flushVisible != 0 {
		access |= accessFlushVisible // any right allows a visible Flush
	}
	if rights&fabric.RemoteFlush != 0 && e.features&flushDurable != 0 && e.domain >= pmem.ADR {
		access |= accessFlushDurable
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return 0, fabric.ErrClosed
	}
	e.serial++
	iova := iovaOf(e.serial, uintptr(base))
	e.setups.Add(1) // Close waits for us, and then revokes
	e.mu.Unlock()
	defer e.setups.Done()
	region, err := e.dev.register(uintptr(base), n, iova, access)
	if err != nil {
		return 0, fmt.Errorf("%w (memory of the domain %v, rights %#x)", registrationError(n, err), m.Domain(), rights)
	}
	r := &registration{memoryRegion: region, key: makeKey(region.rkey, rights, iova), mem: m, base: base, n: n, iova: iova}
	e.change(func(all map[fabric.Key]*registration) { all[r.key] = r })
	return r.key, nil
}

// change replaces the table of registrations, which is read without a lock.
func (e *Endpoint) change(f func(map[fabric.Key]*registration)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := maps.Clone(*e.registrations.Load())
	f(all)
	e.registrations.Store(&all)
}

// Revoke implements [fabric.Endpoint]: see the package's comment. The doorbell rings when an answer of ErrInFlight is not
// true any more.
func (e *Endpoint) Revoke(key fabric.Key) error {
	r := (*e.registrations.Load())[key]
	if r == nil {
		return nil
	}
	r.revoke.Store(true)
	if r.users.Load() != 0 { // for the time of a bounded copy
		e.bell.ring() // ask again soon
		return fabric.ErrInFlight
	}
	if r.ending.CompareAndSwap(false, true) {
		e.tasks.Go(func() { e.deregister(r) })
	}
	return fabric.ErrInFlight
}

// deregister ends a registration. If the device cannot end the operations under it, their connections are ended.
func (e *Endpoint) deregister(r *registration) {
	if err := r.memoryRegion.deregister(); err != nil {
		e.severAll(fmt.Errorf("a key was revoked, and the device could not end the operations under it: %w", err))
		if err := r.memoryRegion.deregister(); err != nil {
			return // it stays in flight, and Revoke says so
		}
	}
	e.change(func(all map[fabric.Key]*registration) { delete(all, r.key) })
	e.bell.ring()
}
