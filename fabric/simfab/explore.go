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
