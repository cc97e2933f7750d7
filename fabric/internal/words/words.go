// Package words copies memory that other goroutines and processes read and write meanwhile, word by word.
package words

import "unsafe"

// few is the length up to which a loop over words beats a call of copy.
const few = 128

// Copy copies n bytes and tears no aligned word of dst that it writes whole: whoever loads the word sees its old or its
// new value. Nor does it tear a word of src when src and dst are alike modulo 8. The ranges may be the same memory,
// mapped twice; then the bytes are some mixture.
//
// The first and last bytes go one by one and all between in whole aligned words: by the loop below, or by Go's copy,
// which on a range of aligned words uses instructions of a word or wider. The manuals promise that an aligned word is
// not torn by the former (Intel SDM 3A, 9.1.1; Arm ARM, B2.2.1); wider ones are split at multiples of a word if at all.
// Under the race detector, which knows nothing of that, whole words are atomic loads and stores.
//
// No pointer is ever made beyond the last byte, where another object of Go's heap may be.
func Copy(dst, src unsafe.Pointer, n uint64) {
	i := min(-uint64(uintptr(dst))&7, n)
	for j := range i {
		*(*byte)(unsafe.Add(dst, j)) = *(*byte)(unsafe.Add(src, j))
	}
	if n-i >= 8 {
		i += copyWords(unsafe.Add(dst, i), unsafe.Add(src, i), (n-i)&^7)
	}
	for ; i < n; i++ {
		*(*byte)(unsafe.Add(dst, i)) = *(*byte)(unsafe.Add(src, i))
	}
}
