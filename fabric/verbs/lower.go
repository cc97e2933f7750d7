//go:build verbs && cgo && linux

package verbs

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/rules"
	"whale/pmem"
)

// requests is how many work requests an operation takes at most.
func (c *conn) requests(op *fabric.Op) int {
	n := 2 + c.written.n // a Flush or Fence of all that was written; a Write may put one range out
	if op.Kind == fabric.Write || op.Kind == fabric.Read {
		if pieces := (op.Len + c.ep.message - 1) / c.ep.message; pieces <= c.maxPieces() {
			n += int(pieces)
		}
	}
	return n
}

// maxPieces is how many work requests one operation is cut into at most. A quarter of the queue may be taken by requests of
// which no completion is going to tell; this always finds room beside them.
func (c *conn) maxPieces() uint64 { return uint64(len(c.q.requests) / 2) }

// add gives the operation a number and, if all is well so far, its work requests.
func (c *conn) add(op *fabric.Op) {
	seq := c.posted
	p := c.at(seq)
	*p = pending{id: op.ID, kind: op.Kind, signaled: op.Flags&fabric.Signaled != 0}
	c.posted++
	if c.severed || c.stalled {
		p.last = c.rung
		if c.severed {
			c.ep.bell.heard() // its completion is there at once
		}
		return
	}
	first := c.filled
	if p.err = c.lower(op, seq); p.err != nil {
		// Its turn comes when those before it are done, which the completion of a Write of nothing tells.
		c.filled = first
		c.stalled = true
		*c.request() = workRequest{op: opWrite, flags: signaled}
	}
	n := c.filled - first
	c.rung += uint64(n)
	p.last = c.rung
	c.silent += n
	c.silentOp++
	last := &c.q.requests[c.filled-1]
	for i := first; i < c.filled; i++ {
		c.q.requests[i].id = seq
	}
	if c.fence {
		c.q.requests[first].flags |= fenced
		c.fence = false
	}
	// Without a completion now and then nobody would know what is through.
	if p.signaled || c.silent >= len(c.q.requests)/4 || c.silentOp >= len(c.ring)/4 {
		last.flags |= signaled
	}
	if last.flags&signaled != 0 {
		c.silent, c.silentOp = 0, 0
	}
	c.fence = op.Kind == fabric.Fence && p.err == nil
}

// request is the next free work request, zero but for what the device does not look at.
func (c *conn) request() *workRequest {
	w := &c.q.requests[c.filled]
	c.filled++
	return w
}

// lower turns an operation into work requests. On an error none of them counts.
func (c *conn) lower(op *fabric.Op, seq uint64) error {
	if err := rules.Check(op, maxInline, maxSend); err != nil {
		return err
	}
	var flags uint8
	if op.Flags&fabric.Fenced != 0 {
		flags = fenced
	}
	switch op.Kind {
	case fabric.Write:
		return c.lowerWrite(op, flags, seq)
	case fabric.Read:
		rkey, addr, err := remote(op.Remote, op.Len, fabric.RemoteRead)
		if err != nil {
			return err
		}
		return c.lowerLong(op, opRead, opRead, flags, rkey, addr)
	case fabric.Write8:
		return c.lowerWrite8(op, flags, seq)
	case fabric.CompareSwap, fabric.FetchAdd:
		if !c.plan.atomics {
			return fmt.Errorf("%w: atomics: one of the two devices has none", fabric.ErrUnsupported)
		}
		rkey, addr, err := remote(op.Remote, 8, fabric.RemoteAtomic)
		if err != nil {
			return err
		}
		defer c.wrote(op, addr, 8)
		kind := uint8(opCompareSwap)
		if op.Kind == fabric.FetchAdd {
			kind = opFetchAdd
		}
		*c.request() = workRequest{op: kind, flags: flags, rkey: rkey, remote: addr, a: op.A, b: op.B, local: c.slot(seq), lkey: c.buffers.lkey, length: 8}
	case fabric.Flush:
		return c.lowerFlush(op, flags, seq)
	case fabric.Fence:
		return c.lowerFence(op, flags, seq)
	case fabric.Send:
		return c.lowerSend(op, flags, seq)
	}
	return nil
}

func (c *conn) lowerWrite(op *fabric.Op, flags uint8, seq uint64) error {
	if err := c.nonTemporal(op); err != nil {
		return err
	}
	rkey, addr, err := remote(op.Remote, op.Len, fabric.RemoteWrite)
	if err != nil {
		return err
	}
	defer c.wrote(op, addr, op.Len)
	last := uint8(opWrite)
	if op.Flags&fabric.Notify != 0 {
		last = opWriteImm
	}
	if op.Flags&fabric.Inline != 0 && op.Len > 0 {
		return c.lowerInline(op, workRequest{op: last, flags: flags, rkey: rkey, remote: addr}, seq)
	}
	return c.lowerLong(op, opWrite, last, flags, rkey, addr)
}

// lowerInline copies the bytes now.
func (c *conn) lowerInline(op *fabric.Op, w workRequest, seq uint64) error {
	r, err := c.ep.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	defer r.release()
	c.small(w, r.bytes(op.Local.Off, op.Len), seq)
	return nil
}

// small adds a request with bytes of its own: inside it, or, where the device takes none there, in the operation's slot.
func (c *conn) small(w workRequest, b []byte, seq uint64) {
	w.length = uint32(len(b))
	if c.ep.inline > 0 {
		w.flags |= inlined
		copy(w.data[:], b)
	} else {
		copy(c.buffers.mem[slotOff(seq, len(c.ring)):], b)
		w.local, w.lkey = c.slot(seq), c.buffers.lkey
	}
	*c.request() = w
}

// lowerLong is a Write or a Read, cut into what the device moves at once; the last piece may be of another kind.
func (c *conn) lowerLong(op *fabric.Op, kind, last, flags uint8, rkey uint32, addr uint64) error {
	r, err := c.ep.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	r.release() // from here on the device checks
	local, n := r.iova+op.Local.Off, op.Len
	if n/c.ep.message >= c.maxPieces() {
		return fmt.Errorf("%w: %d bytes are more than a queue of the device holds", fabric.ErrOp, n)
	}
	for ; n > c.ep.message; n -= c.ep.message {
		*c.request() = workRequest{op: kind, flags: flags, rkey: rkey, remote: addr, local: local, lkey: r.lkey, length: uint32(c.ep.message)}
		addr, local = addr+c.ep.message, local+c.ep.message
		flags = 0
	}
	*c.request() = workRequest{op: last, flags: flags, rkey: rkey, remote: addr, local: local, lkey: r.lkey, length: uint32(n)}
	return nil
}

func (c *conn) lowerWrite8(op *fabric.Op, flags uint8, seq uint64) error {
	if err := c.nonTemporal(op); err != nil {
		return err
	}
	rkey, addr, err := remote(op.Remote, 8, fabric.RemoteWrite)
	if err != nil {
		return err
	}
	defer c.wrote(op, addr, 8)
	notify := op.Flags&fabric.Notify != 0
	w := workRequest{op: opWrite8, flags: flags, rkey: rkey, remote: addr, length: 8}
	binary.NativeEndian.PutUint64(w.data[:], op.A)
	if c.plan.atomicWrite {
		*c.request() = w
	} else {
		if w.op = opWrite; notify {
			w.op, notify = opWriteImm, false
		}
		c.small(w, w.data[:8], seq)
	}
	if notify { // ATOMIC WRITE has no immediate data
		*c.request() = workRequest{op: opWriteImm}
	}
	return nil
}

// errNoDomain is why what is to be durable is refused.
var errNoDomain = fmt.Errorf("%w: the peer's memory survives nothing, or its device has no FLUSH and it does not declare that writes go straight to the memory",
	fabric.ErrUnsupported)

// nonTemporal: writes are visible in post order. They are durable in that order where visible is durable, and where the
// peer declares that they pass its caches by.
func (c *conn) nonTemporal(op *fabric.Op) error {
	if op.Flags&fabric.NonTemporal != 0 && !c.plan.nonTemporal {
		return fmt.Errorf("%w: non-temporal writes: the peer does not declare that writes pass its caches by", fabric.ErrUnsupported)
	}
	return nil
}

// wrote notes what a later durable Flush or Fence has to flush.
func (c *conn) wrote(op *fabric.Op, addr, n uint64) {
	if !c.plan.flushNative || n == 0 {
		return
	}
	through := op.Flags&(fabric.WriteThrough|fabric.NonTemporal) != 0
	if _, rights, _ := openKey(op.Remote.Key); rights&fabric.RemoteFlush == 0 {
		c.unflushable = c.unflushable || through && !c.plan.nonTemporal
		return
	}
	if s, flush := c.written.add(op.Remote.Key, addr, n, through); flush {
		c.flushSpan(0, s)
	}
}

// flushSpan makes a range durable by FLUSH; the length of one is 32 bits.
func (c *conn) flushSpan(flags uint8, s span) {
	rkey, _, _ := openKey(s.key)
	w := workRequest{op: opFlush, flags: flags, rkey: rkey, remote: s.from, length: uint32(s.to - s.from), place: placeVisible | placeDurable, level_: levelRange}
	if s.to-s.from >= 1<<31 {
		w.length, w.level_ = 0, levelRegion
	}
	*c.request() = w
}

// lowerFence: the request that follows has the fence flag and waits for all these.
func (c *conn) lowerFence(op *fabric.Op, flags uint8, seq uint64) error {
	if op.A == fabric.Durable && c.plan.domain == pmem.None {
		return fmt.Errorf("a durable fence: %w", errNoDomain)
	}
	if op.A == fabric.Durable && c.unflushable {
		return fmt.Errorf("%w: a durable fence: what was written through before it, under a key without the right to flush, cannot be made durable", fabric.ErrAccess)
	}
	first := c.filled
	if op.A == fabric.Durable {
		for s, ok := c.written.throughout(); ok; s, ok = c.written.throughout() {
			c.flushSpan(flags, s)
		}
	}
	if c.filled == first {
		c.readWord(flags, c.scratchKey, c.scratch, 8, seq)
	}
	return nil
}

func (c *conn) lowerFlush(op *fabric.Op, flags uint8, seq uint64) error {
	needs := allRights
	if op.A == fabric.Durable {
		if needs = fabric.RemoteFlush; c.plan.domain == pmem.None {
			return fmt.Errorf("a durable flush: %w", errNoDomain)
		}
	}
	off, n := op.Remote.Off, op.Len
	if op.B == fabric.Region {
		off, n = 0, 0
	}
	rkey, addr, err := remote(fabric.Addr{Key: op.Remote.Key, Off: off}, n, needs)
	if err != nil {
		return err
	}
	switch _, rights, _ := openKey(op.Remote.Key); {
	case op.A == fabric.Durable && c.plan.flushNative && op.B == fabric.Region:
		first := c.filled
		whole := c.written.incomplete(op.Remote.Key)
		for s, ok := c.written.ofRegion(op.Remote.Key); ok; s, ok = c.written.ofRegion(op.Remote.Key) {
			if !whole {
				c.flushSpan(flags, s)
			}
		}
		switch {
		case whole:
			*c.request() = workRequest{op: opFlush, flags: flags, rkey: rkey, remote: addr, place: placeVisible | placeDurable, level_: levelRegion}
		case c.filled == first: // nothing to do, but the key has to be good
			c.flushSpan(flags, span{key: op.Remote.Key, from: addr, to: addr + 1})
		}
	case op.A == fabric.Durable && c.plan.flushNative && n > 0:
		if n >= 1<<31 { // its end is checked by a Flush of the last byte
			c.flushSpan(flags, span{key: op.Remote.Key, from: addr + n - 1, to: addr + n})
		}
		c.flushSpan(flags, span{key: op.Remote.Key, from: addr, to: addr + n})
	case c.plan.flush && (op.A == fabric.Visible || c.plan.domain != pmem.ADR):
		w := workRequest{op: opFlush, flags: flags, rkey: rkey, remote: addr, length: uint32(n), place: placeVisible, level_: levelRange}
		if n >= 1<<31 { // its end is checked by a Flush of the last byte
			w.remote, w.length = addr+n-1, 1
			*c.request() = w
		}
		if n == 0 || n >= 1<<31 {
			w.remote, w.length, w.level_ = addr, 0, levelRegion
		}
		*c.request() = w
	case rights&fabric.RemoteRead != 0 && (n > 0 || op.B == fabric.Region):
		c.readWord(flags, rkey, addr+max(n, 1)-1, 1, seq)
	default: // memory that may not be read: a READ of any other pushes the writes before it as well
		c.readWord(flags, c.scratchKey, c.scratch, 8, seq)
	}
	return nil
}

func (c *conn) lowerSend(op *fabric.Op, flags uint8, seq uint64) error {
	w := workRequest{op: opSend, flags: flags, length: uint32(op.Len)}
	if op.Flags&fabric.Inline != 0 && op.Len > 0 {
		return c.lowerInline(op, w, seq)
	}
	r, err := c.ep.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	r.release()
	w.local, w.lkey = r.iova+op.Local.Off, r.lkey
	*c.request() = w
	return nil
}

// readWord READs up to 8 bytes into the slot of operation seq.
func (c *conn) readWord(flags uint8, rkey uint32, addr uint64, n uint32, seq uint64) {
	*c.request() = workRequest{op: opRead, flags: flags, rkey: rkey, remote: addr, local: c.slot(seq), lkey: c.buffers.lkey, length: n}
}

// Each operation in the ring has a slot of its own, behind the receive buffers, for what an atomic or a READ brings or
// small bytes that leave.
const slotSize = maxInline

func slotOff(seq uint64, depth int) int {
	return receiveDepth*maxSend + int(seq%uint64(depth))*slotSize
}

// slot is what the device calls it.
func (c *conn) slot(seq uint64) uint64 { return c.buffers.addr(slotOff(seq, len(c.ring))) }

// word is what an atomic brought.
func (c *conn) word(seq uint64) uint64 {
	if c.freedAll {
		return 0
	}
	return *(*uint64)(unsafe.Pointer(&c.buffers.mem[slotOff(seq, len(c.ring))]))
}
