//go:build !race

package plog

// storeWords stores a slot word by word, each of them whole. No order is needed, nor the locked instructions that it
// would cost: the checksum protects a reader from a slot that is half old and half new.
func storeWords(dst *[SlotSize / 8]uint64, b *[SlotSize]byte) {
	for i := range dst {
		dst[i] = le.Uint64(b[8*i:])
	}
}
