// Fail over: the primary is gone for good in the middle of a transaction. Its mirror's copy is opened, recovered and used; later the old
// primary's machine is back, and becomes the mirror.
package main

import (
	"context"
	"fmt"

	"whale/examples/internal/playground"
	"whale/mirror"
	"whale/mirror/ptx"
)

func main() {
	p := playground.New()
	defer p.Close()
	ctx := context.Background()

	// Before: a primary with a pool, and its mirror.
	oldMemory, newMemory := p.Memory("one"), p.Memory("two")
	addr, stop := p.Serve("two", newMemory)
	oldEnd := p.Endpoint("one")
	region, err := mirror.Open(ctx, oldMemory, oldEnd, []string{addr}, mirror.Options{Strategy: mirror.DDIODisabled})
	playground.Must(err)
	pool, err := ptx.Open(region, ptx.Options{})
	playground.Must(err)
	tx, err := pool.Begin()
	playground.Must(err)
	tx.Store64(pool.Root(), 41)
	playground.Must(tx.Commit())

	// The primary dies in a transaction: part of it is on its way, or there.
	tx, err = pool.Begin()
	playground.Must(err)
	tx.Store64(pool.Root(), 999)
	playground.Must(oldEnd.Close())

	// On the mirror's machine: stop serving, so that nothing of the old primary lands any more, and open the copy. Opening the pool
	// undoes what had not committed.
	stop()
	label, err := mirror.Inspect(newMemory)
	playground.Must(err)
	fmt.Println("the mirror's copy:", label.State)
	region, err = mirror.Open(ctx, newMemory, nil, nil, mirror.Options{})
	playground.Must(err)
	pool, err = ptx.Open(region, ptx.Options{})
	playground.Must(err)
	fmt.Println("recovered:", region.Load64(pool.Root()))
	playground.Must(region.Close())

	// The old primary's machine is back: its memory is offered as the mirror. Its label says that it is the older one, so it is filled.
	// (Had it been opened as a primary, it would have been told that its mirror is newer.)
	addr, _ = p.Serve("one", oldMemory)
	region, err = mirror.Open(ctx, newMemory, p.Endpoint("two"), []string{addr}, mirror.Options{Strategy: mirror.DDIODisabled})
	playground.Must(err)
	defer region.Close()
	pool, err = ptx.Open(region, ptx.Options{})
	playground.Must(err)
	tx, err = pool.Begin()
	playground.Must(err)
	tx.Store64(pool.Root(), tx.Load64(pool.Root())+1)
	playground.Must(tx.Commit())
	fmt.Println("on the new mirror:", oldMemory.Load64(mirror.HeadSize+pool.Root()))
}
