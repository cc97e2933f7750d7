package verbs

import (
	"fmt"

	"whale/fabric"
)

// A key says what it takes to reach the memory: the number that the card checks (the rkey), the rights, and where the
// registration starts in the addresses that the card accepts under it (the iova):
//
//	bits  0..31  rkey
//	bits 32..35  rights
//	bits 36..45  start of the memory in its page, in units of 64 bytes: iova and memory must agree in these bits
//	bits 46..63  serial number of the registration, from a random start
//
//	iova = serial<<45 | start in the page
//
// The serial number is in the addresses, so the card itself tells an old key from a new one with the same rkey, unless
// exactly 2^18 registrations lie between them.
const (
	startUnit  = 64
	startBits  = 10 // pages of up to 64 KiB
	serialBits = 18
	spanBits   = 45 // a registration is shorter than 2^45 bytes
	maxSpan    = 1<<spanBits - startUnit<<startBits

	allRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush
)

// iovaOf is where the registration with this serial number starts whose memory is at addr, a multiple of startUnit.
func iovaOf(serial uint32, addr uintptr) uint64 {
	return uint64(serial%(1<<serialBits))<<spanBits | uint64(addr)%(startUnit<<startBits)
}

// makeKey is the key of a registration. It is never zero: the rkey of no device is, with serial and start zero as well.
func makeKey(rkey uint32, rights fabric.Rights, iova uint64) fabric.Key {
	start := iova % (startUnit << startBits) / startUnit
	return fabric.Key(uint64(rkey) | uint64(rights)<<32 | start<<36 | iova>>spanBits<<46)
}

// openKey is the inverse of makeKey.
func openKey(k fabric.Key) (rkey uint32, rights fabric.Rights, iova uint64) {
	start := uint64(k) >> 36 % (1 << startBits) * startUnit
	return uint32(k), fabric.Rights(k>>32) & allRights, uint64(k)>>46<<spanBits | start
}

// remote finds the place of n bytes at a for a key that needs one of the rights. The end of the registration is the card's
// to check.
func remote(a fabric.Addr, n uint64, needs fabric.Rights) (rkey uint32, addr uint64, err error) {
	rkey, rights, iova := openKey(a.Key)
	switch {
	case rights&needs == 0:
		return 0, 0, fmt.Errorf("%w: key %#x does not give the right %#x", fabric.ErrAccess, a.Key, needs)
	case a.Off > maxSpan || n > maxSpan-a.Off:
		return 0, 0, fmt.Errorf("%w: [%d, %d+%d) is in no registration", fabric.ErrAccess, a.Off, a.Off, n)
	}
	return rkey, iova + a.Off, nil
}
