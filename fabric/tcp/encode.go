package tcp

import (
	"fmt"
	"unsafe"

	"whale/fabric"
	"whale/fabric/internal/rules"
	"whale/pmem"
)

// pump hands posted operations to the sender, as far as it has room.
func (c *conn) pump() {
	if err := c.gatherAll(); err != nil { // memory that is gone under us, in the middle of a frame
		c.send.drop()
		c.ended(err)
		c.windDown()
	}
}

func (c *conn) gatherAll() (err error) {
	defer pmem.Catch(pmem.Arm(), &err)
	for c.encoded < c.posted && !c.stalled && c.err == nil && c.fault.Load() == nil && !c.closing.Load() {
		if c.waitFor > c.acked.Load() {
			return nil
		}
		room := c.send.free()
		for c.encoded < c.posted && !c.stalled && c.gather(room-c.send.bytes) {
		}
		if c.send.bytes == 0 {
			if c.waitFor > c.acked.Load() || c.send.starve() {
				return nil
			}
			continue
		}
		c.sent.Store(c.encoded)
		c.send.push()
	}
	return nil
}

// gather adds the next frame to the batch. False: it has to wait, for room or for an earlier operation.
func (c *conn) gather(room int) bool {
	p := &c.ring[c.encoded%queueDepth]
	op := &p.op
	payload := 0
	if op.Kind == fabric.Write || op.Kind == fabric.Send {
		payload = int(min(op.Len-min(c.part, op.Len), maxPayload))
	}
	if room < requestSize+payload || !c.send.takes(payload) {
		return false
	}
	if c.part == 0 {
		if err := c.admissible(op); err != nil {
			c.refuse(p, err)
			return true
		}
		if op.Flags&fabric.Fenced != 0 && c.waits() {
			return false
		}
	}
	q := request{kind: op.Kind, key: op.Remote.Key, off: op.Remote.Off, a: op.A, b: op.B, seq: uint32(c.encoded)}
	var src unsafe.Pointer
	var held *registration
	if op.Flags&fabric.WriteThrough != 0 {
		q.flags |= flagThrough
	}
	if op.Flags&fabric.NonTemporal != 0 {
		q.flags |= flagNonTemporal
	}
	switch op.Kind {
	case fabric.Write, fabric.Send:
		q.n, q.a, q.b = uint32(payload), op.Len-c.part, 0
		q.off += c.part
		if p.copied {
			src = unsafe.Pointer(&p.inline)
			break
		}
		var err error
		if held, err = c.ep.local(op.Local, op.Len); err != nil {
			c.refuse(p, err)
			return true
		}
		src = held.at(op.Local.Off + c.part)
		c.part += uint64(payload)
		if op.Kind == fabric.Write && c.part < op.Len {
			c.send.add(&q, src, held)
			return true
		}
	case fabric.Read:
		q.a, q.b = op.Len, 0
		held, err := c.ep.local(op.Local, op.Len)
		if err != nil {
			c.refuse(p, err)
			return true
		}
		held.release()
	case fabric.Flush:
		q.a, q.b = op.Len, 0
		if op.A == fabric.Durable {
			q.flags |= flagDurable
		}
		if op.B == fabric.Region {
			q.flags |= flagRegion
		}
	case fabric.Fence:
		q.a, q.b = 0, 0
		if op.A == fabric.Durable {
			q.flags |= flagDurable
		}
	}
	if op.Flags&fabric.Notify != 0 || op.Kind == fabric.Send {
		q.flags |= flagNotify
	}
	if op.Flags&fabric.Signaled != 0 || c.encoded%ackEvery == 0 {
		q.flags |= flagAck
	}
	c.send.add(&q, src, held)
	c.encoded++
	c.part = 0
	return true
}

// admissible finds what is wrong with op before anything of it is sent.
func (c *conn) admissible(op *fabric.Op) error {
	if err := rules.Check(op, maxInline, maxSend); err != nil {
		return err
	}
	if c.domain == pmem.None && (op.Kind == fabric.Flush || op.Kind == fabric.Fence) && op.A == fabric.Durable {
		return fmt.Errorf("%w: a durable flush or fence, and %s has memory that survives nothing", fabric.ErrUnsupported, c.peer)
	}
	if c.domain == pmem.None && op.Flags&fabric.NonTemporal != 0 {
		return fmt.Errorf("%w: a non-temporal write, and %s has memory that survives nothing", fabric.ErrUnsupported, c.peer)
	}
	return nil
}

// refuse ends operation encoded with err and everything behind it. A Fence goes in its place: once that is answered, it
// is known how the operations before it ended.
func (c *conn) refuse(p *pending, err error) {
	p.err = err
	q := request{kind: fabric.Fence, flags: flagAck, seq: uint32(c.encoded)}
	c.send.add(&q, nil, nil)
	c.encoded++
	c.part = 0
	c.stalled = true
}

// waits says whether a Fenced operation has to wait for an earlier Read or atomic, and notes until when.
func (c *conn) waits() bool {
	acked := c.acked.Load()
	for at := c.encoded; at > acked; at-- {
		switch c.ring[(at-1)%queueDepth].op.Kind {
		case fabric.Read, fabric.CompareSwap, fabric.FetchAdd:
			c.waitFor = at
			return true
		}
	}
	return false
}
