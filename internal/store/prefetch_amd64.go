package store

import "unsafe"

// prefetch asks for the cache line at p, translation included, and does not wait. p may be anything.
//
//go:noescape
func prefetch(p unsafe.Pointer)
