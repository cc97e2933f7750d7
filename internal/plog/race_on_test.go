//go:build race

package plog

const underRace = true
