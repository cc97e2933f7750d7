package simfab

import (
	"fmt"

	"whale/fabric"
	"whale/pmem"
)

// conn is one end of a connection.
//
// Its operations stand in posted, in post order. Each completes, in that order (done is the position of the first that has
// not), and lands, in an order that passes allows (first is the position of the first that has not). One that has done
// both leaves.
type conn struct {
	net  *Network
	ep   *Endpoint
	peer *conn

	posted      queue[*op]
	done, first uint64
	inflight    int // posted and not yet completed and, where there is a completion, polled

	receives  queue[fabric.Op]
	receiving int // receives posted and not yet polled

	completions queue[fabric.Completion]

	written written

	unlanded int           // in posted
	midway   int           // of those: in the middle
	through  []pmem.Memory // written through, and not fenced since
	active   int           // place in net.active, when unlanded > 0
	held     bool
	lost     bool  // held, and lost meanwhile: to be noticed at the release
	dead     bool  // no operation starts any more
	cause    error // of death, for the next completion
	closed   bool  // nothing lands any more
}

// Caps implements fabric.Conn.
func (c *conn) Caps() fabric.Caps { return c.net.caps }

// Post implements fabric.Conn.
func (c *conn) Post(ops []fabric.Op) int {
	taken := 0
	for i := range ops {
		if ops[i].Kind == fabric.Recv {
			if c.receiving == c.net.opts.RecvDepth {
				break
			}
			c.receiving++
			c.postRecv(&ops[i])
		} else {
			if c.inflight == c.net.opts.QueueDepth {
				break
			}
			c.inflight++
			c.postOp(&ops[i])
		}
		taken++
	}
	return taken
}

func (c *conn) postRecv(o *fabric.Op) {
	if c.dead {
		c.report(o, 0, c.nextCause())
		return
	}
	c.receives.push(*o)
	if c.net.opts.Auto {
		c.peer.drain()
	}
}

func (c *conn) postOp(from *fabric.Op) {
	if c.dead {
		c.report(from, 0, c.nextCause())
		return
	}
	n := c.net
	n.events++
	o := n.newOp()
	o.Op, o.c, o.id, o.pos, o.bad = *from, c, n.events, c.posted.tail, n.malformed(from)
	if o.Flags&fabric.Inline != 0 && o.bad == nil {
		o.take()
	}
	c.posted.push(o)
	if c.unlanded++; c.unlanded == 1 {
		c.active = len(n.active)
		n.active = append(n.active, c)
	}
	if n.opts.Log != nil {
		n.logf("post %v", o.event())
	}
	id := o.id
	if n.opts.Auto {
		c.drain()
	}
	c.advance()
	if n.opts.OnPost != nil && o.id == id && !o.landed {
		n.opts.OnPost(o.event())
	}
}

// Poll implements fabric.Conn.
func (c *conn) Poll(dst []fabric.Completion) int {
	n := min(len(dst), c.completions.len())
	for i := range dst[:n] {
		dst[i] = c.completions.pop()
		if dst[i].Kind == fabric.Recv {
			c.receiving--
		} else {
			c.inflight--
		}
	}
	return n
}

// Close implements fabric.Conn. The peer hears of it at once, or when the way to it is no longer held. While an operation of
// the peer's is in the middle, the answer is ErrInFlight.
func (c *conn) Close() error {
	if !c.closed {
		c.sever()
		c.peer.lose()
	}
	c.lost = false
	c.die(fabric.ErrFlushed)
	c.net.dropMiddle(func(o *op) bool { return o.c == c })
	c.ep.forget(c)
	if c.peer.midway > 0 {
		return fmt.Errorf("%w: the connection of %s to %s is closed", fabric.ErrInFlight, c.ep.name, c.peer.ep.name)
	}
	return nil
}

// sever drops at both ends what has completed and not landed. Nothing lands any more, but for what is in the middle.
func (c *conn) sever() {
	c.net.logf("sever %s %s", c.ep.name, c.peer.ep.name)
	for _, end := range []*conn{c, c.peer} {
		end.closed = true
		for pos := end.posted.head; pos < end.done; pos++ {
			if o := *end.posted.at(pos); !o.landed && o.pin == nil {
				c.net.logf("drop %d", o.id)
				end.landed(o)
			}
		}
		end.retire()
	}
}

// lose: the connection is gone; this end notices now, or once it can hear again.
func (c *conn) lose() {
	if c.lost = c.held; c.lost {
		return
	}
	c.die(fabric.ErrBroken)
	c.ep.ring()
	if c.closed {
		c.ep.forget(c)
	}
}

// fail: the first operation of this end that has not landed, or has not completed, failed. The peer's end is of no more
// use either.
func (c *conn) fail(cause error) {
	for c.done < c.first && c.done < c.posted.tail { // landed before it: they did not fail, whoever was to acknowledge them
		c.complete(*c.posted.at(c.done))
	}
	c.die(cause)
	if !c.peer.dead {
		c.peer.lose()
	}
}

// die ends the connection for this end: what has not completed never lands and completes with an error, the first with
// the cause. What has completed is on its way, and lands unless the connection is severed.
func (c *conn) die(cause error) {
	if c.dead {
		return
	}
	c.net.logf("dead %s->%s: %v", c.ep.name, c.peer.ep.name, cause)
	c.dead, c.cause = true, cause
	for ; c.done < c.posted.tail; c.done++ {
		o := *c.posted.at(c.done)
		c.report(&o.Op, 0, c.nextCause())
		o.completed = true
		if !o.landed && o.pin == nil {
			c.landed(o)
		}
	}
	for c.receives.len() > 0 {
		o := c.receives.pop()
		c.report(&o, 0, c.nextCause())
	}
	c.retire()
}

// nextCause is the error of the next operation on a dead connection.
func (c *conn) nextCause() error {
	if err := c.cause; err != nil {
		c.cause = nil
		return err
	}
	return fabric.ErrFlushed
}

// advance completes what may complete by itself, in post order.
func (c *conn) advance() {
	for !c.held && !c.net.opts.Acked && c.done < c.posted.tail {
		o := *c.posted.at(c.done)
		if !o.landed && (c.net.opts.Late || !c.completeEarly(o)) {
			break
		}
		if o.landed {
			c.complete(o)
		}
	}
	c.retire()
}

// completeEarly completes the operation at done before it has landed. It is false for one that must land first, and for
// one that fails: the peer's refusal does not wait for anything either.
func (c *conn) completeEarly(o *op) bool {
	if !o.early() && o.bad == nil {
		return false
	}
	if err := o.check(); err != nil {
		c.net.logf("fail %d: %v", o.id, err)
		c.fail(err)
		return false
	}
	o.take()
	if c.net.opts.Log != nil { // the arguments alone would allocate
		c.net.logf("complete %d", o.id)
	}
	c.complete(o)
	return true
}

// complete reports the end of the operation at done.
func (c *conn) complete(o *op) {
	o.completed = true
	c.done++
	if o.Flags&fabric.Signaled != 0 {
		c.report(&o.Op, o.result, nil)
	} else {
		c.inflight--
	}
}

func (c *conn) report(o *fabric.Op, value uint64, err error) {
	c.completions.push(fabric.Completion{ID: o.ID, Kind: o.Kind, Value: value, Err: err})
}

// landed takes the operation off what is still to land, whether it landed or was dropped.
func (c *conn) landed(o *op) {
	o.landed = true
	o.release()
	if o.pin != nil {
		c.net.leaveMiddle(o)
	}
	for c.first < c.posted.tail && (*c.posted.at(c.first)).landed {
		c.first++
	}
	if c.unlanded--; c.unlanded == 0 {
		list := c.net.active
		last := list[len(list)-1]
		list[c.active], last.active = last, c.active
		c.net.active = list[:len(list)-1]
	}
}

// retire lets go of operations that have completed and landed.
func (c *conn) retire() {
	for c.posted.len() > 0 {
		o := *c.posted.at(c.posted.head)
		if !o.completed || !o.landed {
			return
		}
		c.posted.pop()
		c.net.freeOp(o)
	}
}

// drain lands, in post order, whatever can, up to what is in the middle.
func (c *conn) drain() {
	for c.unlanded > 0 {
		o := *c.posted.at(c.first)
		if o.pin != nil || !c.canLand(o) {
			return
		}
		c.perform(o)
	}
}
