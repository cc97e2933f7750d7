// Atomic transactions: package ptx makes all or nothing of epochs. Money goes from one account to another, and is never in both
// or in neither, whatever ends the program in between.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"whale/examples/internal/playground"
	"whale/mirror"
	"whale/mirror/ptx"
)

func main() {
	p := playground.New()
	defer p.Close()
	addr, _ := p.Serve("mirror", p.Memory("mirror"))
	region, err := mirror.Open(context.Background(), p.Memory("primary"), p.Endpoint("primary"), []string{addr},
		mirror.Options{Strategy: mirror.DDIODisabled})
	playground.Must(err)
	defer region.Close()
	pool, err := ptx.Open(region, ptx.Options{Log: ptx.Undo, Root: 16})
	playground.Must(err)

	// The root object has the places of two accounts; each is a block of its own.
	tx, err := pool.Begin()
	playground.Must(err)
	for i := range uint64(2) {
		account, err := tx.Alloc(64)
		playground.Must(err)
		tx.Write(account, binary.LittleEndian.AppendUint64(nil, 100))
		tx.Store64(pool.Root()+8*i, account)
	}
	playground.Must(tx.Commit())

	playground.Must(transfer(pool, 30))
	fmt.Println("after 30:", balances(pool))
	fmt.Println("500:", transfer(pool, 500))
	fmt.Println("after that:", balances(pool))
}

var errPoor = errors.New("not enough money")

func transfer(pool *ptx.Pool, amount uint64) error {
	tx, err := pool.Begin()
	if err != nil {
		return err
	}
	from, to := tx.Load64(pool.Root()), tx.Load64(pool.Root()+8)
	tx.Store64(to, tx.Load64(to)+amount)
	if tx.Load64(from) < amount {
		return errors.Join(errPoor, tx.Abort()) // the other account is as it was
	}
	tx.Store64(from, tx.Load64(from)-amount)
	return tx.Commit()
}

func balances(pool *ptx.Pool) (all []uint64) {
	for i := range uint64(2) {
		all = append(all, pool.Region().Load64(pool.Region().Load64(pool.Root()+8*i)))
	}
	return all
}
