package simfab

import (
	"fmt"
	"slices"

	"whale/fabric"
)

// An operation that changes memory may stay in the middle of that: the target has checked its key, some of its words may be
// there ([Network.DeliverWords]), and the others come some day, whatever becomes of the key and of the connection meanwhile.
// On shared memory that is a process that was stopped inside a copy; with a card, what it still has in its queues.

// Begin leaves the operation, which must be able to land, in the middle: a Write, Write8, CompareSwap or FetchAdd. Until it has
// landed, Revoke of its key answers ErrInFlight, and so does Close at the peer. It never lands when its poster closes the
// connection or ends, nor when the target ends: what is there of it stays. It lands when Deliver says so; Step does so with
// [Options].Midway alone.
func (n *Network) Begin(e Event) error {
	o, err := n.ready(e)
	if err != nil {
		return err
	}
	if !o.canStay() {
		return fmt.Errorf("simfab: event %v changes no memory, is refused, or is in the middle already", e)
	}
	n.begin(o)
	return nil
}

// BeginConn leaves the first operation in the middle, of those that one end of a connection has posted, for which that is
// possible. False: there is none.
func (n *Network) BeginConn(c fabric.Conn) (Event, bool) {
	conn := c.(*conn)
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		if o := *conn.posted.at(pos); !o.landed && conn.canLand(o) && o.canStay() {
			n.begin(o)
			return o.event(), true
		}
	}
	return Event{}, false
}

// canStay: it may be left in the middle.
func (o *op) canStay() bool {
	switch o.Kind {
	case fabric.Write, fabric.Write8, fabric.CompareSwap, fabric.FetchAdd:
		return o.pin == nil && o.check() == nil
	}
	return false
}

func (n *Network) begin(o *op) {
	if n.opts.Log != nil {
		n.logf("begin %v", o.event())
	}
	o.take() // the local memory may be gone before it lands
	o.pin, _, _ = o.target()
	o.pin.inside++
	o.c.midway++
	n.middle = append(n.middle, o)
}

// leaveMiddle: it has landed, or never will.
func (n *Network) leaveMiddle(o *op) {
	o.pin.inside--
	o.c.midway--
	o.pin = nil
	i := slices.Index(n.middle, o)
	n.middle = slices.Delete(n.middle, i, i+1)
}

// dropMiddle has those operations in the middle stay what they are for ever.
func (n *Network) dropMiddle(which func(*op) bool) {
	for i := len(n.middle) - 1; i >= 0; i-- {
		if o := n.middle[i]; which(o) {
			n.logf("drop %d in the middle", o.id)
			o.c.landed(o)
			o.c.retire()
		}
	}
}

// InTheMiddle says how many operations are in the middle in memory of the endpoint called name.
func (n *Network) InTheMiddle(name string) (count int) {
	for _, o := range n.middle {
		if o.c.peer.ep.name == name {
			count++
		}
	}
	return count
}
