// Two regions, one write: what is committed here is there, too.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"whale/fabric/shm"
	"whale/mirror"
	"whale/pmem"
)

func main() {
	dir, err := os.MkdirTemp("", "whale-example")
	must(err)
	defer os.RemoveAll(dir)
	secret := []byte("an example's secret, of 16 bytes or more")

	// The mirror: a file of persistent memory, and a place on the fabric where it is offered. This is what
	// `whale mirror serve` does, most often on another machine.
	there, err := pmem.Map(filepath.Join(dir, "mirror"), 1<<20, pmem.Options{})
	must(err)
	defer there.Close()
	thereEnd, err := shm.Open(filepath.Join(dir, "mirror.fabric"), shm.Options{Secret: secret})
	must(err)
	defer thereEnd.Close()
	export, err := mirror.NewExport(thereEnd, there)
	must(err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- export.Serve(ctx) }()

	// The primary: a file of its own, of the same size, and the address of the mirror.
	here, err := pmem.Map(filepath.Join(dir, "primary"), 1<<20, pmem.Options{})
	must(err)
	defer here.Close()
	hereEnd, err := shm.Open(filepath.Join(dir, "primary.fabric"), shm.Options{Secret: secret})
	must(err)
	defer hereEnd.Close()
	region, err := mirror.Open(ctx, here, hereEnd, []string{thereEnd.Addr()}, mirror.Options{Strategy: mirror.OrderedBuffering})
	must(err)

	tx, err := region.Begin()
	must(err)
	tx.Write(100, []byte("hello, mirror"))
	must(tx.Commit()) // durable here and there

	fmt.Printf("here:  %s\n", region.Bytes()[100:113])
	fmt.Printf("there: %s\n", there.Bytes()[mirror.HeadSize+100:][:13]) // the label comes before the region

	must(region.Close())
	stop()
	must(<-served)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
