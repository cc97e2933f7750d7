// Epochs: a record is written before the word that says that it is there, on every copy, and nobody waits in between.
package main

import (
	"context"
	"fmt"

	"whale/examples/internal/playground"
	"whale/mirror"
)

// The region of this example is a journal: at 0 the number of records, at 4096 the records, of 64 bytes.
const recordSize = 64

func main() {
	for _, strategy := range mirror.Strategies[1:] { // all but none
		fmt.Printf("%v: %d records\n", strategy, run(strategy))
	}
}

func run(strategy mirror.Strategy) (records uint64) {
	p := playground.New()
	defer p.Close()
	copy := p.Memory("mirror")
	addr, _ := p.Serve("mirror", copy)
	region, err := mirror.Open(context.Background(), p.Memory("primary"), p.Endpoint("primary"), []string{addr}, mirror.Options{Strategy: strategy})
	playground.Must(err)
	defer region.Close()

	tx, err := region.Begin()
	playground.Must(err)
	for n := range uint64(1000) {
		record := make([]byte, recordSize)
		record[0] = byte(n)
		tx.Write(4096+n*recordSize, record)
		tx.Barrier()       // nothing below is durable anywhere before the record is
		tx.Store64(0, n+1) // as a whole: no copy ever holds half of the word
		tx.Barrier()       // nor is the next record before this word
		if n%100 == 99 {   // SM-RC has waited 200 times by now,
			must(tx.Commit()) // the others wait here, once
			tx, err = region.Begin()
			playground.Must(err)
		}
	}
	must(tx.Commit())
	return copy.Load64(mirror.HeadSize)
}

func must(err error) { playground.Must(err) }
