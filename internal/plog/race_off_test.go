//go:build !race

package plog

const underRace = false
