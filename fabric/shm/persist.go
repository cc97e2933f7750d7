package shm

import (
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/words"
	"whale/pmem"
)

// What the network card and the memory controller of the peer do elsewhere, the initiator's CPU does here, with the
// instructions that the owner of the memory asks for. In the domain ADR, the only one in which a line has a way to go, every
// write starts it at once, so that a flush of a region waits for what this connection wrote and does not look for it.

// copyTo is the storing of a Write that is not long.
func (c *conn) copyTo(r *remote, dst, src unsafe.Pointer, op *fabric.Op) {
	c.moved += op.Len
	if op.Flags&fabric.NonTemporal != 0 && r.flushes {
		c.order()
		if op.Len >= pmem.WorthNT {
			c.settled = true // such stores are in no order
			r.mem.CopyNT(r.off+op.Remote.Off, unsafe.Slice((*byte)(src), op.Len))
			c.written(r)
			return
		}
	}
	words.Copy(dst, src, op.Len)
	c.started(r, op, op.Len)
}

// started sends n bytes that were stored for op on their way.
func (c *conn) started(r *remote, op *fabric.Op, n uint64) {
	if r.flushes {
		r.mem.Persist(r.off+op.Remote.Off, n)
	}
	if op.Flags&(fabric.WriteThrough|fabric.NonTemporal) != 0 {
		c.written(r)
	}
}

// written notes that a fence has something to wait for.
func (c *conn) written(r *remote) {
	if c.through != r.mem {
		c.order()
		c.through = r.mem
	}
}

// order makes what was written through, or non-temporally, durable: nothing that is stored from here on is so before.
func (c *conn) order() {
	if c.through != nil {
		c.through.Fence()
		c.through = nil
	}
}

// flushes says whether a store needs more than to be made.
func flushes(m pmem.Memory) bool { return m.Domain() == pmem.ADR }
