"""How likely a character is in the writing of a language: what tells one encoding from another.

The same bytes are good text under one encoding and nonsense under the others. `cost` puts a number on that: the
negative logarithm of the probability of a text, from the characters that the language uses most, so that the costs of
one run of bytes under several encodings can be compared. The lists are counts over public texts, most frequent first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from itertools import pairwise

_SIMPLIFIED = (
    "的是你一和我有个不以可在了人么这时什用要能好学到为中多分他地生们大会于如来对理行自过方上道等体物得点间它机店子作数"
    "成发些下吗性或定应并更解动关玩种电助最通家心法国建景提那问使您去知帮高出很小还感没化常也力之系器重题进说需与程里当"
    "同北情量开合酒工周持信保者制都现经天意己其文面实因计而习果加京馆餐类后身想看件主内据包所边度门元务将请表话笑本长特"
    "接只然就术议何区入全事活目放算前食公业从任新相水游少供统治式年日该欢部起具复票喜但球推谢让确选名见交细标求找技明被"
    "服质网啊正代立比外给基斯手息址及觉样每园型组位着处病由序吃此呢评设气平市影无康疗品结真社免美健试变适传做存源括资受"
    "户语认西安金口例维穿回两总路查月太素容科望费哪收创荐管非三取记格场控字期消第响客怎近运节指谁构效言山决各注候价别利"
    "支观号先打许状密完择考尔展次原识态钱产兴失步克越东形睡空论图错功单清优且告向头义引研思环示线释共色增究二流战连吧导"
    "转乐达老教足爱详码模避听像已造把界历率海际书端易调政列答师强案直诉世改域护车友神写根几验药视王证反症股精至住快必城"
    "史致项白领协广员医置读便风马互象故趣儿输编约参死远育朋饮减条寻断络再光命规低热吸极台养尽聊德配带续值眠况集排析早整"
    "境布料专希除较联换离花均营良含层备称拉走充宫则超富十博划绪菜街段林女预队松站音华饭积欲否核片操始级念检够血难蛋阳深"
    "府商嗯肉概修济皮士键疯声又轻激民软即送哈司脑杂虑星四南附准炎张八止频呀假测智符虚才随切策满伤权显戏波享职索律缓众材"
    "云压往古火采述染未投患独询叫晚尼温简久红获万恐尝季败院句库令害艺链闻录铁页速练藏拟胜群棒痛味防限休疾角双她首织罗报"
)
_TRADITIONAL_ONLY = (
    "個們這說來時為國會對過後發經學動現開樣還沒見長關點書話問間進種無實體機電車東應當員業產與從將結給讓麼於曰歡嗨樂覺爾"
    "遠愛辭類後見義廟歌該並訴錢許氣興馬著兩聽萬隻謝計陽運數聲認誠盡錯勝資約遊記傷題讀歷禮處寫熱緒風維決談轉敢齊幾複圖腦"
    "婆瘋論雖師親張試納總別絕觀買門詳裡內羅變細賢歸靈離詩雜單優雷懷頭壞難終餘點組係軟隊碼賽養環雙場稱獨測執濟統創懼澀騙"
    "貓陳質憑厭夢虛傳際爭亂輕歲蓋復隨戲節偉費臨飲驗斷財條換擔軍樹網號紅區響選請務較連線視設語調標務幫護帶戰報紙銀飛龍價"
    "歐證義願讚廳醫藥訊歡聯繫買賣廣濟勞壓腳腸髮麵館餐飯嗎啊喔喲"
)
_KANJI = (
    "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校"
    "語土木聞食車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公"
    "持野以思家世多正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住真有口少町料工建空急止送切転研足究楽起"
    "着店病質待試族銀早映親験英医仕去味写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服夕借曜飲肉貸堂鳥"
    "飯勉冬昼茶弟牛魚兄犬妹姉漢定性的法成対全部関当現作化政経結果合市相意務民連発回表実数情報選必要加最機能初期間約続無論"
    "説世戦変感想声取引指示違存在由調査次第共面種類進信記録番号組織含点味直接与得確認認識利反応可能条件状態設受付"
)
_HANGUL = (
    "이다는에의을가고하지도기한은로를사어서나대인자시리라해그들보수일아있적여정것주부게만제전상장과안으거요니스우면마구신문"
    "원동당국세경공학성조무유중연선모생용비오소회분관계방실미년와내바진았었였습때까후말트드치야더모든위같없했되된될됩각간감"
    "강개건결교권급남날너노능단달라람래려력럼렇료르름말물반발본불산살새생설심쪽야양업영왔외운월음임입작재저점족존좋죠직질"
    "집차참처천체초최출크타터통특파포표프필할함합항행향험현형호화활"
)
_COMMON_KANA = (
    "のにはをたがでてとしれさいるなもかられりこうすまんくよそっあけどめつわえじだみきおせちねやばびべげごぶぎゃゅょ"
)
_CJK_MARKS = "，。！？、：；“”‘’（）《》「」『』…—～·　【】％〜"

# Letters beyond ASCII that are usual in the Western, Central European and Turkish texts, and the signs of all of them.
_LETTERS = {
    "western": ("éèàáíóúñçüöäßêâîôûëïåøæìòùãõœÿ", "ÉÈÀÁÍÓÚÑÇÜÖÄÊÂÎÔÛËÏÅØÆÌÒÙÃÕŒ¡¿"),
    "central": ("ąćęłńóśźżáčďéěíňřšťúůýžőűäöüßăîâșţşţ", "ĄĆĘŁŃÓŚŹŻÁČĎÉĚÍŇŘŠŤÚŮÝŽŐŰÄÖÜĂÎÂŞŢ"),
    "turkish": ("ığşçöüâî", "İĞŞÇÖÜÂ"),
}
_SCRIPTS = {  # first and last code point, letters by frequency
    "cyrillic": ("\u0400", "\u04ff", "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґ"),
    "greek": ("\u0370", "\u03ff", "αοιετσνηυρπκμλςωόίάδήγέχθύφβώξζψϊΐ"),
    "hebrew": ("\u0590", "\u05ff", "יוהלאתרבשמנםכעדחקפסןטגזצךץף"),
    "arabic": ("\u0600", "\u06ff", "اليمنورتبةعدسفهكقحجأشطصخغضذثزىءإظآئؤ،؟"),
    "thai": ("\u0e00", "\u0e7f", "านรอกเงมยล่วดทส้ตัะปบคิหแจีพช์ใขไุโูผ็ถืซธำึศณ"),
}
_SIGNS = "’“”–—…«»°€£©®§·„‘•№"
MARK = re.compile("[\ud800-\udfff]")  # where `encoding.open_text` put a byte that its encoding does not explain
_LONELY = re.compile("(?<=[A-Za-z])[^\x00-\x7f](?=[A-Za-z])")  # a CJK character within a Latin word
_IMPOSSIBLE, _NONSENSE, _ODD = 25.0, 16.0, 11.5


@cache
def _ranked(letters: str, mass: float) -> dict[str, float]:
    """Costs by Zipf's law: the character of rank r has a share of 1 / (r + 30) of `mass`."""
    letters = "".join(dict.fromkeys(letters))
    total = sum(1 / (r + 30) for r in range(len(letters)))
    return {c: -math.log(mass / total / (r + 30)) for r, c in enumerate(letters)}


@cache
def _tables(language: str) -> dict[str, float]:
    """The costs of the characters that have one of their own in `language`."""
    if language == "simplified":
        return _ranked(_SIMPLIFIED, 0.72) | _ranked(_CJK_MARKS, 0.12)
    if language == "traditional":
        shared = [c for c in _SIMPLIFIED if c.encode("big5", "ignore")]
        woven = "".join(c for pair in zip(shared, _TRADITIONAL_ONLY, strict=False) for c in pair)
        return _ranked(woven + "".join(shared[len(_TRADITIONAL_ONLY) :]), 0.72) | _ranked(_CJK_MARKS, 0.12)
    if language == "japanese":
        return _ranked(_COMMON_KANA, 0.5) | _ranked(_KANJI, 0.22) | _ranked(_CJK_MARKS, 0.1)
    if language == "korean":
        return _ranked(_HANGUL, 0.75) | _ranked(_CJK_MARKS, 0.05)
    signs = dict.fromkeys(_SIGNS, 6.0)
    if language in _SCRIPTS:
        return signs | _ranked(_SCRIPTS[language][2], 0.8)
    if language in _LETTERS:
        small, capital = _LETTERS[language]
        return signs | dict.fromkeys(capital, 7.0) | _ranked(small, 0.35 if language == "western" else 0.4)
    return signs


@cache
def _level(codec: str, c: str) -> int:
    """0 when a national standard does not have the character, 1 for its everyday part, 2 for the rest."""
    raw = c.encode(codec, "ignore")
    if len(raw) != 2:
        return 0
    last = {"gb2312": 0xD7, "big5": 0xC6, "euc_jp": 0xCF}[codec]
    return 1 if raw[0] <= last else 2


@cache
def _character(c: str, language: str) -> float:
    """The cost of one character, whatever stands beside it."""
    if c < "\x80":
        if c.isalpha():
            return 2.9 if c.islower() else 4.2
        return 3.5 if c.isprintable() or c in "\r\n\t" else _NONSENSE
    if "\ud800" <= c <= "\udfff":
        return _IMPOSSIBLE
    known = _tables(language).get(c)
    if known is not None:
        return known
    if language in _SCRIPTS:
        first, last, _ = _SCRIPTS[language]
        return 6.5 if first <= c <= last and c.isalpha() else _ODD
    if language in ("simplified", "traditional") and "\u4e00" <= c <= "\u9fff":
        return (_NONSENSE, 10.0, 12.5)[_level("gb2312" if language == "simplified" else "big5", c)]
    if language == "japanese":
        if "\u30a1" <= c <= "\u30fc":
            return 6.0
        if "\u3041" <= c <= "\u3096":
            return 9.0
        if "\u4e00" <= c <= "\u9fff":
            return (_NONSENSE, 10.0, 12.5)[_level("euc_jp", c)]
    if language == "korean" and "\uac00" <= c <= "\ud7a3":
        return 10.5
    if "\uff01" <= c <= "\uff5e":  # full-width forms
        return 9.0
    return _ODD if language in _LETTERS else _NONSENSE


def cost(text: str, language: str) -> float:
    """The cost of `text` as writing in `language`, in nats: less is likelier.

    Args:
        language: one of the names above, such as "simplified" or "cyrillic"; "any" knows no language and holds each
            character beyond ASCII to cost the same (for UTF-8, whose form alone is proof).
    """
    counts = Counter(text)
    if language == "any":
        return sum(n * (8.0 if c >= "\x80" and not MARK.match(c) else _character(c, "any")) for c, n in counts.items())
    total = sum(n * _character(c, language) for c, n in counts.items())
    if language in _LETTERS or language in _SCRIPTS:
        return total + _beside(text, language)
    return total + 5.0 * len(_LONELY.findall(text))


def _beside(text: str, language: str) -> float:
    """What alphabets do not do: signs within a word, capitals after small letters, two accents in a row."""
    total = 0.0
    for (a, b), n in Counter(pairwise(text)).items():
        if a < "\x80" and b < "\x80":
            continue
        if a.islower() and b.isupper():
            total += 4.0 * n
        if language in _LETTERS and a >= "\x80" and b >= "\x80" and (a.isalpha() or b.isalpha()):
            total += (2.0 if a.isalpha() and b.isalpha() and a.islower() and b.islower() else 5.0) * n
        elif language in _SCRIPTS and (a.isalpha() if a < "\x80" else b < "\x80" and b.isalpha()):
            total += 4.0 * n
    return total
