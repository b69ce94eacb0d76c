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
_I8, _I16, _I32, _ADDRESS = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def features() -> frozenset[str]:
    """What numba compiles for: of "avx512" (with VNNI), "avx2" and "fma", those that the processor has.

    `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` choose another processor, as they do for numba."""
    if config.CPU_NAME or config.CPU_FEATURES:  # type: ignore[attr-defined]
        named = (config.CPU_FEATURES or "") + ("+avx2" if config.CPU_NAME == "haswell" else "")  # type: ignore[attr-defined]
        return frozenset({"avx2"} if "+avx2" in named else ())
    has = binding.get_host_cpu_features()
    found = {"avx2"} if has.get("avx2") else set()
    return frozenset(found | ({"avx512"} if has.get("avx512vnni") and has.get("avx512bw") else set()))


def group_step(bits: int, rows: int, kinds: frozenset[str] | None = None) -> Any:
    """What adds one group of one tile to the sums of `rows` positions, for numba code to call: `(values, scales, x,
    x_scales, x_sums, sums, groups)`: addresses, and how many groups a position has. `sums` are float32 [rows, 16].

    `kinds`: as `features` gives them, which are taken unless given."""

    @intrinsic
    def step(typing: Any, values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, sums: Any, groups: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            for first in range(0, LANES, width(kinds)):
                _Part(builder, bits, kinds, first).add_rows(rows, *arguments)
            return context.get_dummy_value()

        return nb.void(*[nb.intp] * 7), generate

    return step


def width(kinds: frozenset[str] | None = None) -> int:
    """How many rows are worked on at once: as many 32-bit numbers as a register holds."""
    kinds = features() if kinds is None else kinds
    return 16 if "avx512" in kinds else 8 if "avx2" in kinds else 4


class _Part:
    """Some of the sixteen rows of a tile: from number `first` on, as many as a register holds."""

    def __init__(self, builder: ir.IRBuilder, bits: int, kinds: frozenset[str] | None, first: int) -> None:
        self.b, self.bits, self.first = builder, bits, first
        self.kinds = features() if kinds is None else kinds
        self.lanes = width(self.kinds)
        self.ints, self.floats = ir.VectorType(_I32, self.lanes), ir.VectorType(ir.FloatType(), self.lanes)
        self.halves = ir.VectorType(ir.HalfType(), self.lanes)

    def add_rows(
        self, rows: int, values: Any, scales: Any, x: Any, x_scales: Any, x_sums: Any, sums: Any, groups: Any
    ) -> None:
        b = self.b
        # The four bytes of each row that meet the j-th four inputs.
        weights = [self.load(values, self.ints, 4 * self.lanes, 64 * j + 4 * self.first) for j in range(self.bits)]
        scale, floor = (
            b.fpext(self.load(scales, self.halves, 2 * self.lanes, offset + 2 * self.first), self.floats)
            for offset in (0, 2 * LANES)
        )
        # Without an instruction for whole bytes, a byte is two numbers of four bits.
        split = self.bits == 4 or "avx512" not in self.kinds
        low = [b.and_(w, self.same(0x0F0F0F0F)) for w in weights] if split else weights
        high = [b.and_(b.lshr(w, self.same(4)), self.same(0x0F0F0F0F)) for w in weights] if split else []
        for row in range(rows):
            away = b.mul(groups, ir.Constant(_ADDRESS, row))  # groups between this position and the first
            inputs = b.add(x, b.mul(away, ir.Constant(_ADDRESS, GROUP)))
            numbers = b.mul(away, ir.Constant(_ADDRESS, 4))
            fours = [self.spread(self.load(inputs, _I32, 4, 4 * j)) for j in range(8)]
            if self.bits == 4:
                whole = self.dot(low + high, fours)
            elif split:
                whole = b.add(self.dot(low, fours), b.shl(self.dot(high, fours), self.same(4)))
            else:
                whole = self.dot(low, fours)
            by = self.spread(self.load(b.add(x_scales, numbers), ir.FloatType(), 4))
            all_inputs = self.spread(self.load(b.add(x_sums, numbers), ir.FloatType(), 4))
            place = self.place(sums, self.floats, 4 * LANES * row + 4 * self.first)
            total = b.load(place, align=4 * self.lanes)
            total = self.fused(b.sitofp(whole, self.floats), b.fmul(scale, by), total)
            b.store(self.fused(floor, all_inputs, total), place, align=4 * self.lanes)

    def dot(self, weights: list[Any], fours: list[Any]) -> Any:
        """Unsigned bytes of the weights (below 16 where there is no instruction for whole ones) times signed bytes of
        the inputs: four products in each lane, and those of all eight vectors, added up."""
        b = self.b
        if "avx512" in self.kinds:
            sums = [self.same(0), self.same(0)]  # two, so that one need not wait for the other
            for j, (w, four) in enumerate(zip(weights, fours, strict=True)):
                sums[j % 2] = self.call("llvm.x86.avx512.vpdpbusd.512", self.ints, sums[j % 2], w, four)
            return b.add(*sums)
        if "avx2" in self.kinds:
            # Pairs in 16 bits: at most eight times 2 x 15 x 127, which fits.
            bytes_, shorts = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16)
            pairs = [
                self.call("llvm.x86.avx2.pmadd.ub.sw", shorts, b.bitcast(w, bytes_), b.bitcast(four, bytes_))
                for w, four in zip(weights, fours, strict=True)
            ]
            while len(pairs) > 1:
                pairs = [b.add(p, q) for p, q in zip(pairs[::2], pairs[1::2], strict=True)]
            return self.call("llvm.x86.avx2.pmadd.wd", self.ints, pairs[0], ir.Constant(shorts, [1] * 16))
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
