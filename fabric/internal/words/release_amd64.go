//go:build !race

package words

import "sync/atomic"

// StoreRelease stores v: whoever loads it sees every earlier store of this thread that went through the caches. Unlike an atomic
// store of Go it is no full fence, so it does not wait for flushes that are on their way: a fence that comes anyway does.
//
//go:noescape
func StoreRelease(p *atomic.Uint64, v uint64)
