"""The innermost step of a product with quantised weights, built instruction by instruction for the processor at hand.

A group of 32 inputs of sixteen rows is multiplied in whole numbers, which is exact in any order, and so gives the same
sums whichever instructions the processor has for bytes: `vpdpbusd` (AVX-512 VNNI), `pmaddubsw` (AVX2), or none.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config
from numba.core import types as nb
from numba.extending import intrinsic

from glassgpt.engine.fields import GROUP

LANES = 16
_AHEAD = 1024  # bytes
_I8, _I16, _I32, _ADDRESS = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def features() -> frozenset[str]:
    """What numba compiles for: of "avx512" (with VNNI) and "avx2", those that the processor has.

    `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` choose another processor, as they do for numba."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        named = (config.CPU_FEATURES or "") + ("+avx2" if config.CPU_NAME == "haswell" else "")  # type: ignore[attr-defined]
        return frozenset({"avx2"} if "+avx2" in named else ())
    has = binding.get_host_cpu_features()
    found = {"avx2"} if has.get("avx2") else set()
    return frozenset(found | ({"avx512"} if has.get("avx512vnni") and has.get("avx512bw") else set()))


def tile_product(bits: int, rows: int, kinds: frozenset[str] | None = None, *, fetch: bool = True) -> Any:
    """The product of one tile and `rows` positions, for numba code to call: `(values, scales, x, x_scales, x_sums,
    sums, groups)`: addresses, and how many groups a position has. It writes `sums`, float32 [rows, 16].

    `kinds`: as `features` gives them, which are taken unless given. `fetch`: the weights come from memory, and are
    asked for ahead."""

    @intrinsic
    def product(
        typing: Any, values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, sums: Any, groups: Any
    ) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _Tile(builder, bits, rows, features() if kinds is None else kinds, fetch).generate(*arguments)
            return context.get_dummy_value()

        return nb.void(*[nb.intp] * 7), generate

    return product


def width(kinds: frozenset[str] | None = None) -> int:
    """How many rows are worked on at once: as many 32-bit numbers as a register holds."""
    kinds = features() if kinds is None else kinds
    return 16 if "avx512" in kinds else 8 if "avx2" in kinds else 4


class _Tile:
    """Builds the product of a tile. Its sixteen rows are worked on in parts, as many at once as a register holds."""

    def __init__(self, builder: ir.IRBuilder, bits: int, rows: int, kinds: frozenset[str], fetch: bool) -> None:
        self.b, self.bits, self.rows, self.kinds, self.fetching = builder, bits, rows, kinds, fetch
        self.lanes = width(kinds)
        self.ints, self.floats = ir.VectorType(_I32, self.lanes), ir.VectorType(ir.FloatType(), self.lanes)
        self.halves = ir.VectorType(ir.HalfType(), self.lanes)

    def generate(self, values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, sums: Any, groups: Any) -> None:
        # One position is bound by memory, which is read once and in order; of several, a part's sums stay in registers.
        every = range(0, LANES, self.lanes)
        for parts in [every] if self.rows == 1 else [[part] for part in every]:
            self.add_up(list(parts), values, scales, x, x_scales, x_sums, sums, groups)

    def add_up(
        self, parts: list[int], values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, sums: Any, groups: Any
    ) -> None:
        """The sums of some parts, over all groups."""
        b = self.b
        b.function.attributes.alignstack = 64
        places = {(part, row): cgutils.alloca_once(b, self.floats) for part in parts for row in range(self.rows)}
        for place in places.values():
            b.store(ir.Constant(self.floats, [0.0] * self.lanes), place)
        with cgutils.for_range(b, groups, intp=_ADDRESS) as loop:
            v, s = self.ahead(values, loop.index, 64 * self.bits), self.ahead(scales, loop.index, 4 * LANES)
            if self.fetching and parts[0] == 0:
                for byte in range(0, 64 * self.bits, 64):
                    self.fetch(v, _AHEAD + byte)
                self.fetch(s, _AHEAD // 4)
            numbers = [self.inputs(row, loop.index, x, x_scales, x_sums, groups) for row in range(self.rows)]
            for part in parts:
                scale, floor = (
                    b.fpext(self.load(s, self.halves, 2 * self.lanes, offset + 2 * part), self.floats)
                    for offset in (0, 2 * LANES)
                )
                wholes = self.wholes(v, part, [inputs for inputs, _, _ in numbers])
                for row, (product, (_, by, all_inputs)) in enumerate(zip(wholes, numbers, strict=True)):
                    whole = b.sitofp(product, self.floats)
                    total = self.fused(whole, b.fmul(scale, by), b.load(places[part, row]))
                    b.store(self.fused(floor, all_inputs, total), places[part, row])
        for (part, row), place in places.items():
            b.store(b.load(place), self.place(sums, self.floats, 4 * LANES * row + 4 * part), align=4 * self.lanes)

    def inputs(self, row: int, group: Any, x: Any, x_scales: Any, x_sums: Any, groups: Any) -> tuple[Any, Any, Any]:
        """Where a position's inputs of a group are, their scale and their sum."""
        at = self.b.add(group, self.b.mul(groups, ir.Constant(_ADDRESS, row)))
        scale, total = (self.load(self.ahead(a, at, 4), ir.FloatType(), 4) for a in (x_scales, x_sums))
        return self.ahead(x, at, GROUP), self.spread(scale), self.spread(total)

    def wholes(self, values: Any, part: int, inputs: list[Any]) -> list[Any]:
        """A group's product of a part with each position, in whole numbers."""
        if "avx512" not in self.kinds and "avx2" in self.kinds:
            return self.wholes_of_pairs(values, part, inputs)
        b = self.b
        whole = [self.load(values, self.ints, 4 * self.lanes, 64 * j + 4 * part) for j in range(self.bits)]
        products = []
        for at in inputs:
            fours = [self.four(at, j) for j in range(8)]
            if self.bits == 8 and "avx512" in self.kinds:
                products.append(self.dot(whole, fours))
                continue
            # Without an instruction for whole bytes, a byte is two numbers of four bits.
            low, high = [self.half(w, 0) for w in whole], [self.half(w, 4) for w in whole]
            if self.bits == 4:
                products.append(self.dot(low + high, fours))
            else:
                products.append(b.add(self.dot(low, fours), b.shl(self.dot(high, fours), self.same(4))))
        return products

    def wholes_of_pairs(self, values: Any, part: int, inputs: list[Any]) -> list[Any]:
        """The same where two products are added up in 16 bits: at most eight times 2 x 15 x 127, which fits. Four
        vectors of weights at a time meet all positions, so that what is needed stays in sixteen registers."""
        b, products = self.b, [self.same(0) for _ in inputs]
        bytes_, shorts = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16)
        for bits in (0, 4):
            if bits == 0 or self.bits == 8:
                pairs = [ir.Constant(shorts, [0] * 16) for _ in inputs]
            for first in range(0, self.bits, 4):
                loaded = [
                    self.load(values, self.ints, 4 * self.lanes, 64 * j + 4 * part) for j in range(first, first + 4)
                ]
                weights = [self.half(w, bits) for w in loaded]
                for row, at in enumerate(inputs):
                    place = first + (4 if self.bits == 4 and bits else 0)
                    for j, w in enumerate(weights):
                        product = self.call("llvm.x86.avx2.pmadd.ub.sw", shorts, b.bitcast(w, bytes_),
                                            b.bitcast(self.four(at, place + j), bytes_))  # fmt: skip
                        pairs[row] = b.add(pairs[row], product)
            if bits == 4 or self.bits == 8:
                times = ir.Constant(shorts, [16 if bits and self.bits == 8 else 1] * 16)
                for row in range(len(inputs)):
                    products[row] = b.add(
                        products[row], self.call("llvm.x86.avx2.pmadd.wd", self.ints, pairs[row], times)
                    )
        return products

    def four(self, inputs: Any, number: int) -> Any:
        """Four inputs of a position, in each lane."""
        return self.spread(self.load(inputs, _I32, 4, 4 * number))

    def half(self, weights: Any, bits: int) -> Any:
        """The lower or upper four bits of each byte."""
        return self.b.and_(self.b.lshr(weights, self.same(bits)) if bits else weights, self.same(0x0F0F0F0F))

    def fetch(self, address: Any, offset: int) -> None:
        """Asks for memory before it is needed: the processor's own guess is late here."""
        pointer = self.place(address, _I8, offset)
        arguments = [pointer, *(ir.Constant(_I32, n) for n in (0, 3, 1))]  # for reading, into all caches, data
        kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
        self.b.call(cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0"), arguments)

    def ahead(self, address: Any, index: Any, size: int) -> Any:
        return self.b.add(address, self.b.mul(index, ir.Constant(_ADDRESS, size)))

    def dot(self, weights: list[Any], fours: list[Any]) -> Any:
        """Unsigned bytes of the weights (below 16 where there is no instruction for whole ones) times signed bytes of
        the inputs: four products in each lane, and those of all eight vectors, added up."""
        b = self.b
        if "avx512" in self.kinds:
            sums = [self.same(0), self.same(0)]  # two, so that one need not wait for the other
            for j, (w, four) in enumerate(zip(weights, fours, strict=True)):
                sums[j % 2] = self.call("llvm.x86.avx512.vpdpbusd.512", self.ints, sums[j % 2], w, four)
            return b.add(*sums)
        total, top = self.same(0), self.same(24)
        for w, four in zip(weights, fours, strict=True):
            for byte in range(4):
                unsigned = b.and_(b.lshr(w, self.same(8 * byte)), self.same(0xFF))
                signed = b.ashr(b.shl(four, self.same(24 - 8 * byte)), top)
                total = b.add(total, b.mul(unsigned, signed))
        return total

    def fused(self, x: Any, y: Any, z: Any) -> Any:
        """x y + z, rounded once."""
        return self.call(f"llvm.fma.v{self.lanes}f32", self.floats, x, y, z)

    def place(self, address: Any, kind: ir.Type, offset: int) -> Any:
        return self.b.inttoptr(self.b.add(address, ir.Constant(_ADDRESS, offset)), kind.as_pointer())

    def load(self, address: Any, kind: ir.Type, align: int, offset: int = 0) -> Any:
        return self.b.load(self.place(address, kind, offset), align=align)

    def call(self, name: str, result: ir.Type, *values: Any) -> Any:
        kind = ir.FunctionType(result, [value.type for value in values])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), values)

    def spread(self, value: Any) -> Any:
        """One number in all lanes."""
        kind = ir.VectorType(value.type, self.lanes)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
        return self.b.shuffle_vector(first, first, self.same(0))

    def same(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * self.lanes)
