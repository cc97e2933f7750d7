package plog

import "whale/pmem"

// Byte offsets inside the control page. Every word has a 64-byte line to itself, or shares it only with words of the
// same writer, so that no two writers fight over a line. All words are control words (Word) and grow inside an epoch,
// except a lease.
const (
	// OffS: stable. Written by P's loop, in its own page before any reply that depends on it, and by one-sided Write
	// in the pages of the backups. Read by everybody, remotely too.
	OffS = 0
	// OffDW: everywhere. Written like S, by P.
	OffDW = 64
	// OffDurable: the end of what this member holds durably. Written by that member's loop.
	OffDurable = 128
	// OffPeers: the line of member 0; member i's follows at 64*i. In P's page line i is written by member i, by
	// one-sided Write from the same line of its own page, where member i's loop prepares it.
	OffPeers = 512
)

// MaxMembers is the number of peer lines in a control page.
const MaxMembers = 48

// Words of a peer's line, by byte offset inside it.
const (
	offDrained   = 0
	offPeerEnd   = 8
	offForwarded = 16
	offLease     = 24 // not in use: leases are asked for and given by messages
)

// OffPeer is the byte offset, inside the control page, of member i's line. It panics unless 0 <= i < MaxMembers.
func OffPeer(i int) uint64 {
	if uint(i) >= MaxMembers {
		panic("plog: a member index outside the control page")
	}
	return OffPeers + 64*uint64(i)
}

// Control is a member's control page. All methods are atomic and may be called from any goroutine; who may set a word
// stands at its offset. Words are raw: take them apart with SeqIn.
type Control struct {
	m    pmem.Memory
	base uint64
}

// ControlOf is the control page of a memory of that geometry.
func ControlOf(m pmem.Memory, g Geometry) Control { return Control{m: m, base: g.Control()} }

func (c Control) S() uint64       { return c.m.Load64(c.base + OffS) }
func (c Control) DW() uint64      { return c.m.Load64(c.base + OffDW) }
func (c Control) Durable() uint64 { return c.m.Load64(c.base + OffDurable) }

func (c Control) SetS(w uint64)       { c.m.Store64(c.base+OffS, w) }
func (c Control) SetDW(w uint64)      { c.m.Store64(c.base+OffDW, w) }
func (c Control) SetDurable(w uint64) { c.m.Store64(c.base+OffDurable, w) }

// Peer reads the line of member i: how far it has drained its ring, holds data durably, has forwarded it, and its lease.
// The four words are loaded one after another, not as one.
func (c Control) Peer(i int) (drained, durable, forwarded, lease uint64) {
	at := c.base + OffPeer(i)
	return c.m.Load64(at + offDrained), c.m.Load64(at + offPeerEnd), c.m.Load64(at + offForwarded), c.m.Load64(at + offLease)
}

// SetPeer stores the line of member i, word by word.
func (c Control) SetPeer(i int, drained, durable, forwarded, lease uint64) {
	at := c.base + OffPeer(i)
	c.m.Store64(at+offDrained, drained)
	c.m.Store64(at+offPeerEnd, durable)
	c.m.Store64(at+offForwarded, forwarded)
	c.m.Store64(at+offLease, lease)
}
