package plog

import (
	"encoding/binary"
	"hash/crc32"
	"unsafe"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// checksum is CRC32C (RFC 3720, appendix B.4).
func checksum(b []byte) uint32 { return crc32.Update(0, castagnoli, b) }

// checksumLocal is checksum for a buffer on the caller's stack. The compiler cannot see that crc32 keeps no reference
// to its argument and would move the buffer to the heap, an allocation for each slot.
func checksumLocal(b *[SlotSize]byte, n int) uint32 {
	p := uintptr(unsafe.Pointer(b))
	hidden := *(**[SlotSize]byte)(unsafe.Pointer(&p))
	return checksum(hidden[:n])
}

func allZero(b []byte) bool {
	for len(b) >= 32 {
		if le.Uint64(b)|le.Uint64(b[8:])|le.Uint64(b[16:])|le.Uint64(b[24:]) != 0 {
			return false
		}
		b = b[32:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
