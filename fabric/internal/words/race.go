//go:build race

package words

import (
	"sync/atomic"
	"unsafe"
)

// copyWords copies whole words to aligned ones and returns n.
func copyWords(dst, src unsafe.Pointer, n uint64) uint64 {
	aligned := uintptr(src)%8 == 0
	for i := uint64(0); i < n; i += 8 {
		var v uint64
		if from := (*uint64)(unsafe.Add(src, i)); aligned {
			v = atomic.LoadUint64(from)
		} else {
			v = *from
		}
		atomic.StoreUint64((*uint64)(unsafe.Add(dst, i)), v)
	}
	return n
}
