package simfab

import (
	"math/rand/v2"

	"whale/fabric"
)

// window is how far behind the first operation that has not landed Step looks for one that may overtake it.
const window = 16

// Step lets one thing happen, chosen at random among what may: an operation lands, or some words of a Write or a Read do, or one
// completes early. It is false when nothing can. Equal calls with equal generators make equal choices.
func (n *Network) Step(rng *rand.Rand) bool {
	if len(n.active) == 0 {
		return false
	}
	start := rng.IntN(len(n.active))
	for i := range n.active {
		if n.active[(start+i)%len(n.active)].step(rng) {
			return true
		}
	}
	return false
}

// StepConn is [Network.Step] for what one end of a connection has posted.
func (n *Network) StepConn(c fabric.Conn, rng *rand.Rand) bool { return c.(*conn).step(rng) }

// DrainConn lands, in post order, all that one end of a connection has posted and that can land, up to what is in the middle.
func (n *Network) DrainConn(c fabric.Conn) { c.(*conn).drain() }

func (c *conn) step(rng *rand.Rand) bool {
	if (c.held || c.closed) && (c.midway == 0 || !c.net.opts.Midway) {
		return false
	}
	var may [window]*op
	count := 0
	for pos := c.first; pos < min(c.posted.tail, c.first+window); pos++ {
		if o := *c.posted.at(pos); !o.landed && c.canLand(o) && (o.pin == nil || c.net.opts.Midway) {
			may[count] = o
			count++
		}
	}
	if c.net.opts.Late && !c.held && !c.closed && c.done < c.posted.tail {
		if o := *c.posted.at(c.done); o.early() && (count == 0 || rng.IntN(4) == 0) {
			c.completeEarly(o) // or fails: that is something, too
			return true
		}
	}
	if count == 0 {
		return false
	}
	return c.stepLand(rng, may[:count])
}

func (c *conn) stepLand(rng *rand.Rand, may []*op) bool {
	o := may[rng.IntN(len(may))]
	if c.net.opts.Midway && o.canStay() && rng.IntN(4) == 0 {
		c.net.begin(o)
		return true
	}
	if words := o.words(); (o.Kind == fabric.Write || o.Kind == fabric.Read) && words > 1 && rng.IntN(4) == 0 && o.check() == nil {
		first := rng.IntN(words)
		return c.net.DeliverWords(o.event(), first, 1+rng.IntN(words-first)) == nil
	}
	c.perform(o)
	return true
}
