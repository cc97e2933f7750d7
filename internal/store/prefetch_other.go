//go:build !amd64

package store

import "unsafe"

func prefetch(unsafe.Pointer) {}
