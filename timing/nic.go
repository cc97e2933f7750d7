package timing

// nic is a network card: two pipelines, each with a rate, the link out of it, and a cache for what a message needs.
type nic struct {
	tx, rx ps // when the next message may enter
	link   ps // when the link out is free
	held   []*state
	hand   int
}

// state is what a card must hold to work on a message: the state of a connection, or a memory key.
type state struct {
	slot int // 1-based, in held; 0: the card does not hold it
	used bool
}

func newNIC(m *Model) nic { return nic{held: make([]*state, int(m.params.NIC.CacheEntries))} }

// touch is how long the card needs to have the state: nothing when it holds it. One that it does not hold takes the place
// of one that was not used for some time (second chance).
func (n *nic) touch(c *state, miss ps) ps {
	if c == nil {
		return 0
	}
	if c.used = true; c.slot > 0 {
		return 0
	}
	for {
		old := n.held[n.hand]
		if old == nil || !old.used {
			if old != nil {
				old.slot = 0
			}
			n.held[n.hand], c.slot = c, n.hand+1
			n.hand = (n.hand + 1) % len(n.held)
			return miss
		}
		old.used = false
		n.hand = (n.hand + 1) % len(n.held)
	}
}

// forget makes room where the state was.
func (n *nic) forget(c *state) {
	if c.slot > 0 {
		n.held[c.slot-1] = nil
		c.slot = 0
	}
}

// enter takes a pipeline's next place from t on.
func enter(free *ps, t, each ps) ps {
	t = max(t, *free)
	*free = t + each
	return t
}

// send is when a message of n payload bytes that is ready in the card at t has left it through the link.
func (n *nic) send(c *costs, t ps, payload uint64) ps {
	wire := c.wire(payload)
	return enter(&n.link, t, wire) + wire
}
