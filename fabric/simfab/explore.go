package simfab

import (
	"encoding/binary"

	"whale/fabric"
)

// For drivers that try every order: they ask what may land next on a connection, land one of it, and compare states.

// Choices says how many operations that one end of a connection has posted may land next.
func (n *Network) Choices(c fabric.Conn) (count int) {
	conn := c.(*conn)
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		if o := *conn.posted.at(pos); !o.landed && conn.canLand(o) {
			count++
		}
	}
	return count
}

// LandChoice lands the i-th of [Network.Choices], in post order. False: there are not so many.
func (n *Network) LandChoice(c fabric.Conn, i int) bool {
	conn := c.(*conn)
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		o := *conn.posted.at(pos)
		if o.landed || !conn.canLand(o) {
			continue
		}
		if i == 0 {
			conn.perform(o)
			return true
		}
		i--
	}
	return false
}

// Side is an end of a connection, seen from what one end has posted.
type Side uint8

const (
	// Poster notices the landing of an operation whose completion waits for it.
	Poster Side = iota
	// Target notices the landing of an operation that changes its memory, or brings a message; and when a Read or an atomic
	// looks at its memory matters there.
	Target
)

func (o *op) noticed(by Side) bool {
	switch by {
	case Poster:
		return !o.early()
	default:
		return o.Kind != fabric.Flush && o.Kind != fabric.Fence
	}
}

// Unnoticed says how many operations that one end of a connection has posted, and that have not landed, will be noticed by
// a side. Those can only land in post order, unless the network is Relaxed.
func (n *Network) Unnoticed(c fabric.Conn, by Side) (count int) {
	conn := c.(*conn)
	if conn.held || conn.closed {
		return 0
	}
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		if o := *conn.posted.at(pos); !o.landed && o.noticed(by) {
			count++
		}
	}
	return count
}

// Completing says how many operations whose landing the Poster notices can land when so many that the Target notices have,
// and no more of those.
func (n *Network) Completing(c fabric.Conn, noticed int) (count int) {
	conn := c.(*conn)
	var room [64]bool
	landed := append(room[:0], make([]bool, conn.posted.tail-conn.first)...)
	var land func(pos uint64)
	land = func(pos uint64) {
		o := *conn.posted.at(pos)
		for p := conn.first; p < pos; p++ {
			if before := *conn.posted.at(p); !before.landed && !landed[p-conn.first] && !o.passes(before) {
				land(p)
			}
		}
		landed[pos-conn.first] = true
	}
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		o := *conn.posted.at(pos)
		switch {
		case o.landed || landed[pos-conn.first]:
		case o.noticed(Target) && noticed > 0:
			noticed--
			land(pos)
		}
	}
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		o := *conn.posted.at(pos)
		switch {
		case o.landed || landed[pos-conn.first]:
		case o.noticed(Target):
			return count // what the poster notices does not overtake it
		case o.noticed(Poster):
			count++
		}
	}
	return count
}

// LandNoticed lands the first of [Network.Unnoticed] and, ahead of it, what it must not overtake, and nothing else. False:
// something keeps it from landing.
func (n *Network) LandNoticed(c fabric.Conn, by Side) bool {
	conn := c.(*conn)
	for pos := conn.first; pos < conn.posted.tail; pos++ {
		if o := *conn.posted.at(pos); !o.landed && o.noticed(by) {
			return conn.landThrough(o)
		}
	}
	return false
}

func (c *conn) landThrough(o *op) bool {
	for id := o.id; o.id == id && !o.landed; {
		before := c.obstacle(o)
		switch before {
		case nil:
			c.perform(o)
			return true
		case o:
			return false
		}
		if !c.landThrough(before) {
			return false
		}
	}
	return true
}

// Next is the kind of the first operation that has not landed; false: all have.
func (n *Network) Next(c fabric.Conn) (fabric.Kind, bool) {
	conn := c.(*conn)
	if conn.unlanded == 0 {
		return 0, false
	}
	return (*conn.posted.at(conn.first)).Kind, true
}

// AppendState appends what decides about the future of one end of a connection: what is under way with its bytes, what
// was received or has completed and was not polled.
func (n *Network) AppendState(dst []byte, c fabric.Conn) []byte {
	le, conn := binary.LittleEndian, c.(*conn)
	dst = append(dst, flag(conn.held), flag(conn.dead), flag(conn.closed), byte(conn.receives.len()))
	for pos := conn.posted.head; pos < conn.posted.tail; pos++ {
		o := *conn.posted.at(pos)
		dst = append(dst, byte(o.Kind), byte(o.Flags), flag(o.landed), flag(o.completed))
		for _, v := range [...]uint64{o.ID, o.Remote.Off, o.Len, o.A, o.B, o.result} {
			dst = le.AppendUint64(dst, v)
		}
		if from, ok := o.local(); ok && !o.landed {
			dst = append(dst, from...)
		}
	}
	for pos := conn.completions.head; pos < conn.completions.tail; pos++ {
		done := conn.completions.at(pos)
		dst = le.AppendUint64(append(dst, byte(done.Kind), flag(done.Err != nil)), done.ID)
		dst = le.AppendUint64(dst, done.Value)
	}
	return dst
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
