package timing

import "whale/fabric"

// reads says whether a kind brings something back: such an operation completes with its answer, and what is Fenced waits
// for it.
func reads(k fabric.Kind) bool {
	return k == fabric.Read || k == fabric.CompareSwap || k == fabric.FetchAdd
}

// step is an event of one of the connection's work requests.
func (c *conn) step(e event) {
	switch w := e.work; e.step {
	case rung:
		for w != nil {
			next := w.next
			if w.next = nil; len(c.waiting) > 0 || c.mustWait(w, e.at) {
				c.wait(w)
			} else {
				c.issue(w, e.at)
			}
			w = next
		}
	case granted:
		for len(c.waiting) > 0 && !c.mustWait(c.waiting[0], e.at) {
			w, c.waiting = c.waiting[0], c.waiting[1:]
			c.issue(w, e.at)
		}
		c.grant()
	case arrived:
		c.arrive(w, e.at)
	case placed:
		if !c.land(w, e.at) {
			c.stalled = append(c.stalled, w)
		} else {
			c.retry(e.at)
		}
	}
}

// mustWait: it starts only when earlier Reads and atomics have completed, and they have not.
func (c *conn) mustWait(w *work, t ps) bool {
	return w.Flags&fabric.Fenced != 0 && (c.reading > 0 || c.answered > t)
}

func (c *conn) wait(w *work) {
	c.waiting = append(c.waiting, w)
	if len(c.waiting) == 1 {
		c.grant()
	}
}

// grant arranges for what waits to go on, once that is known: when the last answer is here.
func (c *conn) grant() {
	if len(c.waiting) > 0 && c.reading == 0 {
		m := c.model()
		m.events.push(max(c.answered, m.now), granted, c.waiting[0])
	}
}

// issue gives a work request to the card, which has it at t: through its pipeline, the link and the switch it comes to the
// other card.
func (c *conn) issue(w *work, t ps) {
	m := c.model()
	cost, nic := &m.cost, &c.ep.node.nic
	if reads(w.Kind) {
		c.reading++
	}
	t = enter(&c.pair, t, cost.perQP)
	t = enter(&nic.tx, t, cost.message)
	t += nic.touch(&c.state, cost.miss)
	payload := w.payload()
	if payload > cost.inline {
		t += nic.touch(m.stateOf(w.Local.Key), cost.miss) + cost.payloadFetch
	}
	c.out = max(c.out, t+cost.pipeline)
	t = nic.send(cost, c.out, payload) + cost.hop
	c.there = max(c.there, t+m.dice.extra(cost.roundTrip), c.out) // on one connection nothing is overtaken
	m.events.push(c.there, arrived, w)
}

// payload is how many bytes the request carries.
func (w *work) payload() uint64 {
	switch w.Kind {
	case fabric.Write, fabric.Send:
		return w.Len
	case fabric.Write8, fabric.FetchAdd:
		return 8
	case fabric.CompareSwap:
		return 16
	}
	return 0
}

// answer is how many bytes its answer carries.
func (w *work) answer() uint64 {
	switch w.Kind {
	case fabric.Read:
		return w.Len
	case fabric.CompareSwap, fabric.FetchAdd:
		return 8
	}
	return 0
}

func (m *Model) stateOf(k fabric.Key) *state {
	if r := m.keys[k]; r != nil {
		return &r.state
	}
	return nil
}

// arrive takes a work request that reaches the remote card at t through that, and decides when it takes effect and, for
// what is acknowledged there and then, when it completes.
func (c *conn) arrive(w *work, t ps) {
	m := c.model()
	cost, nic := &m.cost, &c.remote.nic
	t = enter(&nic.rx, t, cost.message)
	if c.peer != nil {
		t += nic.touch(&c.peer.state, cost.miss)
	}
	if w.Remote.Key != 0 {
		t += nic.touch(m.stateOf(w.Remote.Key), cost.miss)
	}
	c.in = max(c.in, t+cost.pipeline)
	t = c.in
	switch w.Kind {
	case fabric.Write, fabric.Write8:
		w.due = c.returned(t, 0)
		start := max(t+cost.pcieWrite, c.visible, c.hold)
		if w.Kind == fabric.Write8 || w.Flags&fabric.Notify != 0 { // else it may pass a Read or a Flush
			start = max(start, c.ordered)
		}
		c.visible = c.write(w, start)
		c.place(w, c.visible)
	case fabric.Fence:
		at := max(c.ordered, t)
		if w.A != fabric.Durable {
			w.due = c.returned(t, 0)
		} else if at = max(at, c.durable); w.Flags&fabric.Signaled != 0 { // who waits gets the memory's word: over PCIe
			at = max(at, c.behindWrites(t))
		}
		c.hold = max(c.hold, at)
		c.place(w, at)
	case fabric.Send:
		w.due = c.returned(t, 0)
		at := max(t+cost.payloadFetch+cost.pcieWrite, c.ordered) // it needs the receive's descriptor first
		c.visible = max(c.visible, at)
		c.place(w, at)
	case fabric.Flush:
		at := c.behindWrites(t)
		if r, off, n := c.target(w); r != nil && w.A == fabric.Durable && !cost.eadr {
			at = max(c.remote.memory.writeBack(r, off, n, at), c.durable)
		}
		c.place(w, max(at, c.ordered))
	default: // a Read, an atomic, or what nobody knows: simfab will say so
		at := c.behindWrites(t)
		if r, off, n := c.target(w); r != nil {
			at += c.remote.memory.load(r, off, n)
		}
		if at = max(at, c.ordered); w.Kind != fabric.Read {
			c.visible = max(c.visible, at)
		}
		c.place(w, at)
	}
}

// behindWrites is when a read over PCIe that the card begins at t is back. It pushes the Writes before it ahead of itself,
// so that it is in the memory no earlier than they are.
func (c *conn) behindWrites(t ps) ps {
	read := c.model().cost.pcieRead
	return max(t+read, max(c.visible, c.hold)+read/2)
}

// write is when a Write whose bytes come out of PCIe at t takes effect; it notes when it is durable, if it says how.
func (c *conn) write(w *work, t ps) ps {
	cost, mem := &c.model().cost, &c.remote.memory
	r, off, n := c.target(w)
	if r == nil {
		return t
	}
	first, end := lines(off, n)
	switch {
	case w.Flags&fabric.NonTemporal != 0: // posted writes: the next is behind until the queue has taken this one
		for at := first; at < end; at++ {
			mem.clean(r, at)
			t = mem.admit(r, at*lineSize, t)
		}
		c.durable = max(c.durable, t)
	case cost.eadr: // durable as soon as it is in the cache
		c.durable = max(c.durable, t)
	case w.Flags&fabric.WriteThrough != 0: // in the cache, and on from there at once
		way := t + cost.writeBack
		for at := first; at < end; at++ {
			mem.clean(r, at)
			way += cost.writeBackLine
			c.durable = max(c.durable, mem.admit(r, at*lineSize, way))
		}
	default:
		t = mem.soil(r, off, n, t)
	}
	return t
}

// target is the remote memory that the work request names, if there is such memory.
func (c *conn) target(w *work) (s *space, off, n uint64) {
	r := c.model().keys[w.Remote.Key]
	if r == nil || r.node != c.remote {
		return nil, 0, 0
	}
	off, n = w.Remote.Off, w.Len
	switch {
	case w.Kind == fabric.Write8 || reads(w.Kind) && w.Kind != fabric.Read:
		n = 8
	case w.Kind == fabric.Flush && w.B == fabric.Region:
		off, n = 0, r.size
	}
	if n > r.size || off > r.size-n {
		return nil, 0, 0
	}
	return r.in, r.off + off, n
}

// place arranges for the work request to take effect at t.
func (c *conn) place(w *work, t ps) {
	c.ordered = max(c.ordered, t)
	c.model().events.push(t, placed, w)
}

// land lets the work request take effect at t. It is false when it has to wait for another one, or for a receive.
func (c *conn) land(w *work, t ps) bool {
	m := c.model()
	if m.net.Deliver(w.event) != nil && !m.net.Landed(w.event) {
		return false
	}
	if w.due == 0 { // it completes with its answer
		w.due = c.returned(t, w.answer())
	}
	if reads(w.Kind) {
		c.reading--
		c.answered = max(c.answered, w.due)
		c.grant()
	}
	c.end(w)
	return true
}

// returned is when something that leaves the remote card at t, an acknowledgement or an answer with a payload, can be
// polled. An acknowledgement takes nobody's place.
func (c *conn) returned(t ps, payload uint64) ps {
	cost, local, remote := &c.model().cost, &c.ep.node.nic, &c.remote.nic
	if payload == 0 {
		t += cost.pipeline + cost.wire(0)
	} else {
		t = remote.send(cost, enter(&remote.tx, t, cost.message)+cost.pipeline, payload)
		t = enter(&local.rx, t+cost.hop, cost.message) - cost.hop
	}
	return t + cost.hop + cost.pipeline + cost.pcieWrite
}
