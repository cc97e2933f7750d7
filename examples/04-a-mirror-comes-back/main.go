// A mirror comes back: the region goes on without it, notes what it misses, and copies that and no more.
package main

import (
	"context"
	"fmt"

	"whale/examples/internal/playground"
	"whale/mirror"
)

func main() {
	p := playground.New()
	defer p.Close()
	ctx := context.Background()
	copy := p.Memory("mirror")
	addr, stop := p.Serve("mirror", copy)
	region, err := mirror.Open(ctx, p.Memory("primary"), p.Endpoint("primary"), []string{addr}, mirror.Options{
		Strategy: mirror.OrderedBuffering,
		OnLoss:   mirror.GoOn, // the other choice, Stop, is the default
		Progress: func(_ string, done, total uint64) {
			if done == total {
				fmt.Printf("copied %d KiB\n", total>>10)
			}
		},
	})
	playground.Must(err)
	defer region.Close()

	put(region, 0, 1)
	stop() // the mirror's process ends
	put(region, 8, 2)
	put(region, 500_000, 3)
	lost := region.Mirrors()[0]
	fmt.Printf("lost: %v, misses %d KiB\n", lost.Lost != nil, lost.Dirty>>10)

	p.Serve("mirror", copy) // it is started again, with what it had
	playground.Must(region.Resync(ctx, false))
	fmt.Printf("lost: %v; there: %d %d %d\n", region.Mirrors()[0].Lost != nil,
		copy.Load64(mirror.HeadSize), copy.Load64(mirror.HeadSize+8), copy.Load64(mirror.HeadSize+500_000))
}

func put(region *mirror.Region, off, v uint64) {
	tx, err := region.Begin()
	playground.Must(err)
	tx.Store64(off, v)
	playground.Must(tx.Commit())
}
