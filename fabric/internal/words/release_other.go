//go:build !amd64 || race

package words

import "sync/atomic"

// StoreRelease stores v: whoever loads it sees every earlier store of this thread.
func StoreRelease(p *atomic.Uint64, v uint64) { p.Store(v) }
