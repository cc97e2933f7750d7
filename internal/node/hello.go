package node

import (
	"encoding/binary"
	"fmt"
	"strings"

	"whale/internal/plog"
)

// hello is what two members tell each other when they connect, before any memory is shared. Little-endian:
//
//	magic 8, version 4, from 4, to 4, members 4, incarnation 8, ring slots 8, segment size 8, segments 8, Redis address
//
// The version is ProtocolVersion. It covers control words, slots, records and messages.
type hello struct {
	From, To    int // member indexes, as the sender sees them
	Members     int
	Incarnation uint64
	Geometry    plog.Geometry
	Redis       string // where the sender serves clients, for ROLE and INFO
}

// ProtocolVersion is the version of what nodes say to each other and do in each other's memory. Nodes of different
// versions refuse each other.
const ProtocolVersion = 2

const (
	helloMagic = "whalenod"
	helloSize  = 56 // without the address
	maxAddress = 256
)

func (h *hello) encode() []byte {
	b := make([]byte, 0, helloSize)
	b = append(b, helloMagic...)
	for _, v := range []int{ProtocolVersion, h.From, h.To, h.Members} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	for _, v := range []uint64{h.Incarnation, h.Geometry.RingSlots, h.Geometry.SegmentSize, h.Geometry.Segments} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, h.Redis[:min(len(h.Redis), maxAddress)]...)
}

func decodeHello(b []byte) (hello, error) {
	if len(b) < len(helloMagic)+4 || string(b[:len(helloMagic)]) != helloMagic {
		return hello{}, fmt.Errorf("not a hello of a Whale node: % x", b[:min(len(b), 12)])
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != ProtocolVersion {
		return hello{}, fmt.Errorf("protocol version %d, expected %d: run the same release of whale on all nodes", v, ProtocolVersion)
	}
	if len(b) < helloSize || len(b) > helloSize+maxAddress {
		return hello{}, fmt.Errorf("a hello of %d bytes, expected %d to %d", len(b), helloSize, helloSize+maxAddress)
	}
	u32 := func(off int) int { return int(binary.LittleEndian.Uint32(b[off:])) }
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	return hello{From: u32(12), To: u32(16), Members: u32(20), Incarnation: u64(24),
		Geometry: plog.Geometry{RingSlots: u64(32), SegmentSize: u64(40), Segments: u64(48)},
		Redis:    printable(b[helloSize:])}, nil
}

// agree says why the sender of theirs cannot be in one cluster with the sender of mine. names are the members' addresses,
// as mine knows them; from is who theirs must be, -1 while that is open.
func agree(mine, theirs *hello, names []string, from int) error {
	name := func(i int) string {
		if i >= 0 && i < len(names) {
			return fmt.Sprintf("member %d (%s)", i, names[i])
		}
		return fmt.Sprintf("member %d", i)
	}
	self := name(mine.From)
	switch {
	case theirs.Members != mine.Members:
		return fmt.Errorf("%s was started with %d members, %s with %d: give all nodes the same --peers",
			self, mine.Members, name(theirs.From), theirs.Members)
	case theirs.From < 0 || theirs.From >= mine.Members || theirs.From == mine.From:
		return fmt.Errorf("%s got a hello from a node that says it is member %d: give every node its own --id", self, theirs.From)
	case from >= 0 && theirs.From != from:
		return fmt.Errorf("%s expected %s and found member %d there: give all nodes the same --peers, in the same order, and each its own --id",
			self, name(from), theirs.From)
	case theirs.To != mine.From:
		return fmt.Errorf("%s takes %s for member %d: give all nodes the same --peers, in the same order",
			name(theirs.From), self, theirs.To)
	case theirs.Geometry != mine.Geometry:
		return fmt.Errorf("%s has memory of %s, %s of %s: records have the same place on all members, so start all with the same --arena, "+
			"and move the folder of the odd one away", self, describe(mine.Geometry), name(theirs.From), describe(theirs.Geometry))
	}
	return nil
}

// printable keeps what a peer sent from doing anything to a reply or a terminal.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, string(b))
}

func describe(g plog.Geometry) string {
	return fmt.Sprintf("%d segments of %d KiB with %d ring slots", g.Segments, g.SegmentSize>>10, g.RingSlots)
}
