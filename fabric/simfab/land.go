package simfab

import (
	"errors"
	"fmt"
	"slices"

	"whale/fabric"
)

// canLand: the operation may land now.
func (c *conn) canLand(o *op) bool { return c.obstacle(o) == nil }

// obstacle is what keeps the operation from landing: an operation that it must not overtake, or itself, when it is not
// for those before it. Nil: nothing does.
func (c *conn) obstacle(o *op) *op {
	if o.landed || o.pin == nil && (c.held || c.closed) {
		return o
	}
	for pos := c.first; pos < o.pos; pos++ {
		if before := *c.posted.at(pos); !before.landed && !o.passes(before) {
			return before
		}
	}
	if o.Kind == fabric.Send && c.peer.receives.len() == 0 && !c.peer.dead && o.check() == nil {
		return o
	}
	return nil
}

// passes: o, posted later, may land before the other. One that fails stops everything behind it, so neither may.
func (o *op) passes(before *op) bool {
	if o.Kind != fabric.Write || o.Flags&fabric.Notify != 0 {
		return false
	}
	switch before.Kind {
	case fabric.Flush:
	case fabric.Read:
		if o.Flags&fabric.Fenced != 0 {
			return false
		}
	case fabric.Write:
		if !o.c.net.opts.Relaxed || before.Flags&fabric.Notify != 0 || o.Flags&before.Flags&fabric.NonTemporal != 0 {
			return false
		}
	default:
		return false
	}
	if o.check() != nil || before.check() != nil {
		return false
	}
	if before.Kind == fabric.Write {
		r1, b1, _ := o.target()
		r2, b2, _ := before.target()
		return !overlaps(r1, o.Remote.Off, uint64(len(b1)), r2, before.Remote.Off, uint64(len(b2)))
	}
	return true
}

// perform lands an operation that can land.
func (c *conn) perform(o *op) {
	if err := o.check(); err != nil {
		// Everything before it has landed, and so has completed: it is the first that has not, unless it did early and its
		// key was revoked since. Then the error goes to the next operation.
		c.net.logf("fail %d: %v", o.id, err)
		if o.completed {
			c.landed(o)
		}
		c.fail(err)
		c.retire()
		return
	}
	if c.net.opts.Log != nil {
		c.net.logf("land %v", o.event())
	}
	if c.net.opts.OnLand != nil {
		id := o.id
		if c.net.opts.OnLand(o.event()); o.id != id || o.landed {
			return // its connection was lost meanwhile, or an end of it crashed
		}
	}
	peer := c.peer
	switch r, to, _ := o.remote(); o.Kind {
	case fabric.Write:
		from, _ := o.local()
		o.copyRest(to, from)
		c.dirty(r, o.Remote.Off, o.Len)
		c.persist(o, r, o.Len)
	case fabric.Read:
		into, _ := o.local()
		o.copyRest(into, to)
	case fabric.Write8:
		r.mem.Store64(r.base+o.Remote.Off, o.A)
		c.dirty(r, o.Remote.Off, 8)
		c.persist(o, r, 8)
	case fabric.Fence:
		if o.A == fabric.Durable {
			c.fenceThrough()
		}
	case fabric.CompareSwap, fabric.FetchAdd:
		at := r.base + o.Remote.Off
		c.dirty(r, o.Remote.Off, 8)
		o.result = r.mem.Load64(at)
		if o.Kind == fabric.FetchAdd {
			r.mem.Store64(at, o.result+o.A)
		} else if o.result == o.A {
			r.mem.Store64(at, o.B)
		}
	case fabric.Flush:
		if o.A == fabric.Durable {
			c.flush(r, o)
		}
	case fabric.Send:
		if err := c.deliver(o); err != nil {
			if o.completed {
				c.landed(o)
			}
			c.fail(err)
			c.retire()
			return
		}
	}
	if o.Flags&fabric.Notify != 0 || o.Kind == fabric.Send {
		peer.ep.ring()
	}
	c.landed(o)
	c.advance()
}

// persist is what the flags of a write that has landed ask of its n bytes.
func (c *conn) persist(o *op, r *region, n uint64) {
	if o.Flags&(fabric.WriteThrough|fabric.NonTemporal) == 0 {
		return
	}
	r.mem.Persist(r.base+o.Remote.Off, n)
	if o.Flags&fabric.NonTemporal != 0 {
		r.mem.Fence()
	} else if !slices.Contains(c.through, r.mem) {
		c.through = append(c.through, r.mem)
	}
}

// fenceThrough makes what was written through durable.
func (c *conn) fenceThrough() {
	for _, m := range c.through {
		m.Fence()
	}
	clear(c.through)
	c.through = c.through[:0]
}

// remote is target, and nothing for operations that have none.
func (o *op) remote() (*region, []byte, bool) {
	if o.Kind == fabric.Send || o.Kind == fabric.Fence {
		return nil, nil, false
	}
	return o.target()
}

// deliver hands a message to the peer's oldest receive. The error is the sender's: the peer has heard of it already.
func (c *conn) deliver(o *op) error {
	peer := c.peer
	if peer.dead { // nobody listens any more
		return nil
	}
	from, _ := o.local()
	recv := peer.receives.pop()
	err := peer.net.malformed(&recv)
	if err == nil {
		err = peer.receive(&recv, from)
	}
	if err != nil {
		peer.report(&recv, 0, err)
		peer.die(nil)
		peer.ep.ring()
		if !errors.Is(err, fabric.ErrTooLong) {
			err = fabric.ErrBroken // what is wrong with the peer's buffer is the peer's affair
		}
		return err
	}
	peer.report(&recv, uint64(len(from)), nil)
	return nil
}

// receive copies a message into the buffer of a receive.
func (c *conn) receive(recv *fabric.Op, msg []byte) error {
	var into []byte
	r, ok := c.net.region(c.ep, recv.Local.Key), false
	if r != nil {
		into, ok = r.span(recv.Local.Off, recv.Len, 0)
	}
	if !ok {
		return fmt.Errorf("%w: receive of %d bytes at %d under key %#x of %s", fabric.ErrLocal, recv.Len, recv.Local.Off, uint64(recv.Local.Key), c.ep.name)
	}
	if len(msg) > len(into) {
		return fmt.Errorf("%w: %d bytes for a buffer of %d", fabric.ErrTooLong, len(msg), len(into))
	}
	copy(into, msg)
	return nil
}

// copyRest lands what copyWords has not.
func (o *op) copyRest(to, from []byte) {
	if len(o.parts) == 0 {
		copy(to, from)
		return
	}
	for w, there := range o.parts {
		if !there {
			o.copyWord(to, from, w)
		}
	}
}

// copyWord lands the bytes of a Write that are in the w-th 8-byte word that it touches.
func (o *op) copyWord(to, from []byte, w int) {
	skew := int(o.Remote.Off % 8)
	start, end := max(0, w*8-skew), min(len(to), (w+1)*8-skew)
	copy(to[start:end], from[start:end])
}

// words is how many 8-byte words a Write touches.
func (o *op) words() int {
	if o.Len == 0 {
		return 0
	}
	return int((o.Remote.Off%8 + o.Len + 7) / 8)
}
