//go:build !race

package plog

import "sync/atomic"

// storeWords stores a slot word by word. The checksum, not the order, protects a reader from a half written slot, so
// that one atomic store, the last, is enough; seven more would cost a locked instruction each.
func storeWords(dst *[SlotSize / 8]uint64, b *[SlotSize]byte) {
	for i := SlotSize/8 - 1; i > 0; i-- {
		dst[i] = le.Uint64(b[8*i:])
	}
	atomic.StoreUint64(&dst[0], le.Uint64(b[:]))
}
