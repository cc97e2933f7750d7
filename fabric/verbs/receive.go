//go:build verbs && cgo && linux

package verbs

import (
	"fmt"

	"whale/fabric"
	"whale/fabric/internal/rules"
)

// received marks the ID of a receive request; the rest is the index of its buffer.
const received = 1 << 63

// receives are the posted Recvs and the messages that have arrived, each in order. A message stays in the provider's
// buffer until a Recv is polled for it: receive requests are used up by notifications as well, which are none of the
// caller's. When all buffers are taken, the peer's card waits (receiver not ready), and everything behind the message with
// it.
type receives struct {
	ops            [receiveDepth]fabric.Op
	posted, polled uint64
	messages       [receiveDepth]message
	arrived, taken uint64
}

type message struct {
	buffer int
	n      uint32
}

// post takes a Recv. False: the queue is full.
func (r *receives) post(op *fabric.Op) bool {
	if r.posted-r.polled == receiveDepth {
		return false
	}
	r.ops[r.posted%receiveDepth] = *op
	r.posted++
	return true
}

func (r *receives) forget() { r.taken = r.arrived }

// arrive is a completion of a receive request.
func (c *conn) arrive(buffer int, d *workCompletion) {
	switch {
	case d.status != statusOK:
		if c.why == nil && c.fault == nil {
			c.why = fmt.Errorf("a receive buffer failed: %s", statusText(d.status))
		}
		return
	case d.imm != 0:
		if err := c.repost(buffer); err != nil && c.why == nil {
			c.why = err
		}
	default:
		r := &c.receives
		r.messages[r.arrived%receiveDepth] = message{buffer, d.length}
		r.arrived++
	}
	c.ep.bell.heard()
}

// repost gives a buffer to the device.
func (c *conn) repost(buffer int) error {
	if err := c.q.receive(received|uint64(buffer), c.buffers.addr(buffer*maxSend), maxSend, c.buffers.lkey); err != nil {
		return fmt.Errorf("verbs: posting a receive buffer: %w", err)
	}
	return nil
}

// collectReceives moves completions of Recvs into dst.
func (c *conn) collectReceives(dst []fabric.Completion) (n int) {
	r := &c.receives
	for n < len(dst) && r.polled < r.posted {
		op := &r.ops[r.polled%receiveDepth]
		done := fabric.Completion{ID: op.ID, Kind: fabric.Recv}
		bad := rules.Check(op, maxInline, maxSend)
		switch {
		case c.err != nil:
			done.Err = c.err
		case r.taken < r.arrived:
			m := r.messages[r.taken%receiveDepth]
			done.Value = uint64(m.n)
			if done.Err = bad; bad == nil {
				done.Err = c.deliver(op, m)
			}
			if done.Err != nil {
				done.Value = 0
				c.fail()
				break
			}
			r.taken++
			if !c.severed {
				if err := c.repost(m.buffer); err != nil {
					c.broken(err)
				}
			}
		case c.severed && c.fault != nil:
			return n // the operation that failed is told first
		case c.severed:
			done.Err = c.lost()
			c.fail()
		default:
			return n
		}
		dst[n] = done
		n++
		r.polled++
	}
	return n
}

// deliver copies a message to the buffer of a Recv.
func (c *conn) deliver(op *fabric.Op, m message) error {
	r, err := c.ep.local(op.Local, op.Len)
	if err != nil {
		return err
	}
	defer r.release()
	if uint64(m.n) > op.Len {
		return fmt.Errorf("%w: %d bytes for a buffer of %d", fabric.ErrTooLong, m.n, op.Len)
	}
	copy(r.bytes(op.Local.Off, op.Len), c.buffers.mem[m.buffer*maxSend:][:m.n])
	return nil
}
