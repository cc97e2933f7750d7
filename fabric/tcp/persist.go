package tcp

import (
	"fmt"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/words"
	"whale/pmem"
)

// The target's CPU does what a network card and a memory controller would. In the domain ADR, the only one in which a line
// has a way to go, every write starts it at once, so that a flush of a region waits for what this connection wrote and
// does not look for it.

// store puts the bytes of a request into their place.
func (t *target) store(r *registration, q *request, payload []byte) error {
	if err := t.prepare(r, q); err != nil {
		return err
	}
	if q.flags&flagNonTemporal != 0 && r.flushes {
		r.mem.CopyNT(r.off+q.off, payload)
		t.written(r.mem)
		return nil
	}
	words.Copy(r.at(q.off), unsafe.Pointer(unsafe.SliceData(payload)), uint64(len(payload)))
	t.started(r, q, uint64(len(payload)))
	return nil
}

// prepare is what comes before the stores of a write: a non-temporal one lets earlier ones become durable.
func (t *target) prepare(r *registration, q *request) error {
	if q.flags&flagNonTemporal == 0 {
		return nil
	}
	if r.mem.Domain() == pmem.None {
		return fmt.Errorf("%w: a non-temporal write to memory that survives nothing", fabric.ErrUnsupported)
	}
	t.order()
	return nil
}

// started sends n bytes that were stored for q on their way.
func (t *target) started(r *registration, q *request, n uint64) {
	if r.flushes {
		r.mem.Persist(r.off+q.off, n)
	}
	if q.flags&(flagThrough|flagNonTemporal) != 0 {
		t.written(r.mem)
	}
}

// written notes that a fence has something to wait for. A fence does not touch the memory, so it may be gone by then.
func (t *target) written(m pmem.Memory) {
	if t.through != m {
		t.order()
		t.through = m
	}
}

// order makes what was written through, or non-temporally, durable: nothing that is stored from here on is so before.
func (t *target) order() {
	if t.through != nil {
		t.through.Fence()
		t.through = nil
	}
}
