// Package examples is the folder of small programs that show package mirror, each a little more than the one before:
//
//	01-two-regions-one-write   a region, its mirror, and one committed write
//	02-epochs                  what may be durable when; what the strategies wait for
//	03-atomic-transactions     package ptx: all or nothing, and memory to allocate
//	04-a-mirror-comes-back     going on without a mirror, and what is copied when it returns
//	05-fail-over               the primary is gone: its mirror's copy is opened, and the old primary becomes the mirror
//
// Run one with, for instance, go run ./examples/01-two-regions-one-write. Each prints what is in output.txt beside it, which a
// test checks. They use shared memory, and plain files in place of persistent memory, so they run anywhere; docs/mirroring.md tells what
// changes between machines.
package examples
