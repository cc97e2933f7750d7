package simfab

import (
	"fmt"
	"slices"

	"whale/fabric"
)

// pending is the operation behind the event.
func (n *Network) pending(e Event) (*op, error) {
	if e.net != n || e.op == nil {
		return nil, fmt.Errorf("simfab: event %d is not of this network", e.ID)
	}
	if e.op.id != e.ID || e.op.landed {
		return nil, fmt.Errorf("simfab: event %d has landed already, or was dropped", e.ID)
	}
	return e.op, nil
}

// Deliver lands the operation, or says what it must wait for. An operation that then fails (a revoked key) is
// delivered all the same: its error is a completion.
func (n *Network) Deliver(e Event) error {
	o, err := n.ready(e)
	if err == nil {
		o.c.perform(o)
	}
	return err
}

// Landed: the operation has landed, or was dropped.
func (n *Network) Landed(e Event) bool {
	_, err := n.pending(e)
	return err != nil
}

// ready is the operation behind the event if it can land.
func (n *Network) ready(e Event) (*op, error) {
	o, err := n.pending(e)
	if err != nil {
		return nil, err
	}
	switch before := o.c.obstacle(o); {
	case before == nil:
		return o, nil
	case before != o:
		return nil, fmt.Errorf("simfab: event %v must not overtake %v", o.event(), before.event())
	case o.c.held:
		return nil, fmt.Errorf("simfab: event %v is held", o.event())
	case o.c.closed:
		return nil, fmt.Errorf("simfab: event %v: the connection is gone", o.event())
	default:
		return nil, fmt.Errorf("simfab: event %v waits for a receive to be posted at %s", o.event(), e.To)
	}
}

// DeliverThrough lands the operation and, ahead of it, everything that it must not overtake.
func (n *Network) DeliverThrough(e Event) error {
	for {
		o, err := n.pending(e)
		if err != nil {
			return err
		}
		before := o.c.obstacle(o)
		if before == nil || before == o {
			return n.Deliver(e)
		}
		if err := n.DeliverThrough(before.event()); err != nil {
			return err
		}
	}
}

// DeliverAll lands, in post order, whatever all of the matches choose and can land, and returns how many did. What is not
// chosen stays, and with it what must not overtake it.
func (n *Network) DeliverAll(match ...Match) int {
	count := 0
	for {
		before := count
		for _, e := range n.Pending(match...) {
			if n.Deliver(e) == nil {
				count++
			}
		}
		if count == before { // a receive or an operation posted meanwhile cannot be: nothing else runs
			return count
		}
	}
}

// DeliverWords lands count of the 8-byte words that a Write touches, from the first-th on, and leaves the others: a Write
// is not atomic. Nor is a Read, which fetches them. The last of its words are landed by Deliver.
func (n *Network) DeliverWords(e Event, first, count int) error {
	o, err := n.ready(e)
	if err != nil {
		return err
	}
	total := o.words()
	if o.Kind != fabric.Write && o.Kind != fabric.Read || first < 0 || count < 0 || first > total || count > total-first {
		return fmt.Errorf("simfab: event %v has no words %d to %d", e, first, first+count)
	}
	if err := o.check(); err != nil {
		return err
	}
	if len(o.parts) == 0 {
		o.parts = slices.Grow(o.parts, total)[:total]
		clear(o.parts)
	}
	if n.opts.OnLand != nil {
		if n.opts.OnLand(o.event()); o.id != e.ID || o.landed {
			return nil // its connection was lost meanwhile, or an end of it crashed
		}
	}
	r, to, _ := o.target()
	from, _ := o.local()
	if o.Kind == fabric.Read {
		from, to = to, from
	} else {
		o.c.dirty(r, o.Remote.Off, o.Len)
	}
	for w := first; w < first+count; w++ {
		if !o.parts[w] {
			o.parts[w] = true
			o.copyWord(to, from, w)
		}
	}
	if n.opts.Log != nil {
		n.logf("land %d words %d to %d", o.id, first, first+count)
	}
	return nil
}

// Complete tells the poster of a Write, Write8, Send or Fence that it is done, although it has not landed, and of any
// operation that has. It must be the connection's next to complete. Without [Options].Late the first, and without
// [Options].Acked the second, happens by itself.
func (n *Network) Complete(e Event) error {
	if e.net != n || e.op == nil || e.op.id != e.ID {
		return fmt.Errorf("simfab: event %d is not of this network, or has ended", e.ID)
	}
	o, c := e.op, e.op.c
	if c.held || o.completed || o.pos != c.done {
		return fmt.Errorf("simfab: event %v is held, completed, or behind one that is not", o.event())
	}
	if o.landed {
		c.complete(o)
		c.retire()
		return nil
	}
	if !c.completeEarly(o) && !c.dead { // dead: it has failed, and its completion says so
		return fmt.Errorf("simfab: event %v completes only when it has landed", e)
	}
	return nil
}

// Auto switches [Options].Auto. When it comes on, all that waits lands.
func (n *Network) Auto(on bool) {
	n.opts.Auto = on
	if on {
		n.DeliverAll()
	}
}

// Hold stops everything on the way from one endpoint to another, on connections to come too: nothing posted there
// completes or lands, and from does not notice that a connection was lost.
func (n *Network) Hold(from, to string) {
	n.logf("hold %s->%s", from, to)
	n.held[route{from, to}] = true
	for _, c := range n.ends(from, to) {
		c.held = true
	}
}

// Release ends Hold.
func (n *Network) Release(from, to string) {
	n.logf("release %s->%s", from, to)
	delete(n.held, route{from, to})
	for _, c := range n.ends(from, to) {
		c.held = false
		if c.lost {
			c.lose()
			continue
		}
		c.advance()
		if n.opts.Auto {
			c.drain()
		}
	}
}

// ends are from's ends of its connections with to, severed ones that it has not noticed included.
func (n *Network) ends(from, to string) []*conn {
	var out []*conn
	ep := n.endpoints[from]
	if ep == nil {
		return nil
	}
	for _, c := range ep.conns {
		if c.peer.ep.name == to {
			out = append(out, c)
		}
	}
	return out
}

// Break loses every connection between the two. What has not landed never does, unless it is in the middle; to have it land,
// deliver it first.
func (n *Network) Break(a, b string) {
	for _, c := range n.ends(a, b) {
		if !c.closed {
			c.sever()
			c.lose()
			c.peer.lose()
		}
	}
}

// Crash ends the endpoint's process: its connections are lost, its keys are gone, and nothing that has not landed at it or
// was posted by it lands (to have some of it land, deliver that first). Peers to which the way is held notice at its
// release. Its memory is the caller's, who may take from it what a crash leaves. [Network.Endpoint] starts it again.
//
// It may be called at any point, also from OnLand and OnPost, hence in the middle of what a member does: an operation that was
// about to land does not, what the member posts on fails, and peers find the loss when they poll. A process that goes on
// after its own end is the caller's affair. One way to end it there is a panic out of its memory: that never leaves an
// operation half posted, since posting does no more with memory than read it (but for [Options].Auto).
func (n *Network) Crash(name string) {
	if ep := n.endpoints[name]; ep != nil {
		n.logf("crash %s", name)
		ep.Close()
	}
}
