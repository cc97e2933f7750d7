package verbs

import (
	"encoding/binary"
	"fmt"

	"whale/pmem"
)

// offer is what one side tells the other of its end of the connection, before the hello and the answer.
type offer struct {
	qpn, psn   uint32 // queue pair, first packet; 24 bits
	lid        uint16 // InfiniBand address in the subnet
	mtu        uint8  // 1 is 256 bytes, 5 is 4096
	link       uint8  // as the port says it: both ends have the same
	features   feature
	domain     pmem.Domain
	responder  uint8 // READs, atomics and FLUSHes that it serves at one time
	initiator  uint8 // and starts at one time
	scratchKey uint32
	scratch    uint64 // where Fence may READ 8 bytes
	gid        [16]byte
}

// feature is what one end can do for the other.
type feature uint8

const (
	flushVisible feature = 1 << iota // serves FLUSH to global visibility
	flushDurable                     // and to persistence, over memory that is persistent
	atomicWrite                      // serves ATOMIC WRITE
	atomics                          // serves CmpSwap and FetchAdd
	directWrite                      // what a card has written is in the memory, behind the caches
	allFeatures  = 1<<iota - 1
)

const (
	offerVersion = 1
	offerSize    = 48
)

// encode is the offer as bytes:
//
//	0 version   1 features   2 domain   3 link   4 mtu   5 responder   6 initiator   7 zero   8 lid 2   10 zero 2   12 qpn 4
//	16 psn 4   20 scratch key 4   24 scratch 8   32 gid 16
func (o *offer) encode() []byte {
	b := make([]byte, offerSize)
	b[0], b[1], b[2], b[3], b[4], b[5], b[6] = offerVersion, byte(o.features), byte(o.domain), o.link, o.mtu, o.responder, o.initiator
	binary.LittleEndian.PutUint16(b[8:], o.lid)
	binary.LittleEndian.PutUint32(b[12:], o.qpn)
	binary.LittleEndian.PutUint32(b[16:], o.psn)
	binary.LittleEndian.PutUint32(b[20:], o.scratchKey)
	binary.LittleEndian.PutUint64(b[24:], o.scratch)
	copy(b[32:], o.gid[:])
	return b
}

// decodeOffer checks what a peer sent, and returns what follows the offer.
func decodeOffer(b []byte) (o offer, rest []byte, err error) {
	if len(b) < offerSize {
		return o, nil, fmt.Errorf("an offer of %d bytes, expected at least %d", len(b), offerSize)
	}
	o = offer{
		features: feature(b[1]), domain: pmem.Domain(b[2]), link: b[3], mtu: b[4], responder: b[5], initiator: b[6],
		lid: binary.LittleEndian.Uint16(b[8:]), qpn: binary.LittleEndian.Uint32(b[12:]), psn: binary.LittleEndian.Uint32(b[16:]),
		scratchKey: binary.LittleEndian.Uint32(b[20:]), scratch: binary.LittleEndian.Uint64(b[24:]), gid: [16]byte(b[32:48]),
	}
	switch {
	case b[0] != offerVersion:
		err = fmt.Errorf("an offer of version %d, expected %d: run the same version of Whale at both ends", b[0], offerVersion)
	case o.features&^allFeatures != 0 || o.domain > pmem.EADR || b[7]|b[10]|b[11] != 0:
		err = fmt.Errorf("an offer with unknown features %#x or domain %d", b[1], b[2])
	case o.mtu < 1 || o.mtu > 5 || o.responder == 0 || o.initiator == 0 || o.qpn == 0 || o.qpn|o.psn >= 1<<24:
		err = fmt.Errorf("an offer that no queue pair has: mtu %d, depths %d and %d, number %#x, packet %#x", o.mtu, o.responder, o.initiator, o.qpn, o.psn)
	}
	return o, b[offerSize:], err
}

// plan is how operations of one end become work requests that the other end's device can execute.
type plan struct {
	flush       bool // visible Flush: FLUSH; otherwise READ
	flushNative bool // durable Flush: FLUSH to persistence; otherwise as a visible one
	atomicWrite bool
	atomics     bool
	domain      pmem.Domain // None: no durable Flush
	nonTemporal bool        // writes become durable in the order in which they become visible
}

// planFor weighs what this end can send against what the peer serves and declares.
func planFor(mine feature, peer *offer) plan {
	both := mine & peer.features
	p := plan{
		flush: both&flushVisible != 0, flushNative: both&flushDurable != 0 && peer.domain >= pmem.ADR,
		atomicWrite: both&atomicWrite != 0, atomics: both&atomics != 0, domain: peer.domain,
	}
	if p.domain == pmem.ADR && !p.flushNative && peer.features&directWrite == 0 {
		p.domain = pmem.None // visible is not durable there, and nothing makes it so
	}
	p.nonTemporal = p.domain != pmem.None && (p.domain != pmem.ADR || peer.features&directWrite != 0)
	return p
}
