//go:build !race

package words

import "unsafe"

// copyWords copies whole words to aligned ones and returns n.
func copyWords(dst, src unsafe.Pointer, n uint64) uint64 {
	if n > few {
		copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
		return n
	}
	for i := uint64(0); i < n; i += 8 {
		*(*uint64)(unsafe.Add(dst, i)) = *(*uint64)(unsafe.Add(src, i))
	}
	return n
}
