//go:build race

package plog

import "sync/atomic"

// storeWords stores every word atomically, so that the race detector agrees with LoadSlot.
func storeWords(dst *[SlotSize / 8]uint64, b *[SlotSize]byte) {
	for i := SlotSize/8 - 1; i >= 0; i-- {
		atomic.StoreUint64(&dst[i], le.Uint64(b[8*i:]))
	}
}
