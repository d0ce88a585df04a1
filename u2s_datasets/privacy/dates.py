"""Dates as people write them: in digits, and with the names of the months in the languages of Europe and Asia."""

import re

# Language by language, as without accents and in lower case; a stem stands for its inflections where these only append.
_MONTHS = """
jan(?:uary|uar|v|vier)? january janner feb(?:ruary|ruar)? mar(?:ch)? apr(?:il)? may june? july? aug(?:ust)?
sept?(?:ember)? oct(?:ober)? nov(?:ember)? dec(?:ember)?
marz maerz mai juni juli okt(?:ober)? dez(?:ember)?
janvier fevr?(?:ier)? mars avr(?:il)? juin juil(?:let)? aout septembre octobre novembre decembre
ene(?:ro)? febrero marzo abr(?:il)? mayo junio julio agosto sept?iembre setiembre octubre noviembre
dic(?:iembre)?
gennaio febbraio aprile maggio giugno giu luglio lug settembre ottobre novembre dicembre
janeiro fevereiro maio junho julho setembro outubro novembro dezembro fev
januari februari maart mrt mei augustus maj mars augusti december januar februar marts
stycz(?:en|nia) styczen lutego mar(?:zec|ca) kwie(?:cien|tnia) maja czerw(?:iec|ca) lip(?:iec|ca)
sierp(?:ien|nia) wrze(?:sien|snia) pazdziernika? listopada? grud(?:zien|nia)
ledna leden unora unor brezna brezen dubna duben kvetna kveten cervna cerven cervence cervenec srpna srpen zari
rijna rijen prosince prosinec
ianuarie februarie martie aprilie iunie iulie septembrie octombrie noiembrie decembrie
januar februar marcius aprilis majus junius julius augusztus szeptember oktober november december
tammikuu(?:ta)? helmikuu(?:ta)? maaliskuu(?:ta)? huhtikuu(?:ta)? toukokuu(?:ta)? kesakuu(?:ta)? heinakuu(?:ta)?
elokuu(?:ta)? syyskuu(?:ta)? lokakuu(?:ta)? marraskuu(?:ta)? joulukuu(?:ta)?
ocak subat mart nisan mayis haziran temmuz agustos eylul ekim kasim aralik
januari februari maret mei juni juli agustus september oktober november desember
yanvarya fevralya marta aprelya iyunya iyulya avgusta sentyabrya oktyabrya noyabrya dekabrya
янв(?:ар[ьяе])? фев(?:рал[ьяе])? мар(?:т[ае]?)? апр(?:ел[ьяе])? ма[ияе] май июн[ьяе]? июл[ьяе]? авг(?:уст[ае]?)?
сен(?:тябр[ьяе])? окт(?:ябр[ьяе])? ноя(?:бр[ьяе])? дек(?:абр[ьяе])?
січ(?:ень|ня) лют(?:ий|ого) берез(?:ень|ня) квіт(?:ень|ня) трав(?:ень|ня) черв(?:ень|ня) лип(?:ень|ня)
серп(?:ень|ня) верес(?:ень|ня) жовт(?:ень|ня) листопада? груд(?:ень|ня)
јануара? фебруара? марта априла маја јуна јула августа септембра октобра новембра децембра
ιαν(?:ουαριου?ς?)? φεβ(?:ρουαριου?ς?)? μαρ(?:τιου?ς?)? απρ(?:ιλιου?ς?)? μαι(?:ου|ος)? ιουν(?:ιου?ς?)?
ιουλ(?:ιου?ς?)? αυγ(?:ουστου?ς?)? σεπ(?:τεμβριου?ς?)? οκτ(?:ωβριου?ς?)? νοε(?:μβριου?ς?)? δεκ(?:εμβριου?ς?)?
يناير فبراير مارس ابريل مايو يونيو يونيه يوليو يوليه اغسطس سبتمبر اكتوبر نوفمبر ديسمبر شباط اذار نيسان ايار
حزيران تموز اب ايلول محرم صفر رجب شعبان رمضان شوال
ژانویه فوریه مارس آوریل اوریل مه ژوین ژوئن ژوییه اوت سپتامبر اکتبر نوامبر دسامبر فروردین اردیبهشت خرداد تیر
مرداد شهریور مهر ابان اذر دی بهمن اسفند
جنوری فروری مارچ اپریل مئی جون جولای اگست ستمبر دسمبر
ינואר פברואר מרץ מרס אפריל מאי יוני יולי אוגוסט ספטמבר אוקטובר נובמבר דצמבר תשרי כסלו טבת שבט אדר ניסן אייר סיון
תמוז אלול
जनवरी फरवरी मारच मार्च अपरैल अप्रैल मई जून जलाई जुलाई अगसत अगस्त सितमबर सितम्बर सितंबर अकटबर अक्टूबर नवमबर नवंबर
दिसमबर दिसंबर
มกราคม กมภาพนธ กุมภาพันธ์ มนาคม มีนาคม เมษายน พฤษภาคม มถนายน มิถุนายน กรกฎาคม สงหาคม สิงหาคม กนยายน กันยายน
ตลาคม ตุลาคม พฤศจกายน พฤศจิกายน ธนวาคม ธันวาคม
"""
_MONTH = f"(?:{'|'.join(dict.fromkeys(_MONTHS.split()))})(?![^\\W\\d_])"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_GAP = r"[\s.,_/'-]{0,3}"
_OF = r"(?:(?:of|de|del|the|di|van|den)\s|-?(?:го|е|ого)\s)?"
_BORN = (
    r"born|b\.|birthday|aged|née?|geb(?:oren)?\.?|\*|nacid[oa]|nat[oa]|nascid[oa]|geboren|född|syntynyt|urodzon[ya]|narozen[aý]?"
    r"|родил(?:ся|ась)|рожд(?:ения|ён|ена)|doğum|γεννηθηκε|ولد|متولد|נולד|出生|生于|生まれ|태생|출생"
)
_ONES = r"one|two|three|four|five|six|seven|eight|nine"
_TEENS = r"ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = (
    rf"{_TEENS}|hundred|oh[ -](?:{_ONES})|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[ -](?:{_ONES}))?"
)
_ORDINAL = (
    r"(?:(?:twenty|thirty)[ -])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|tenth|eleventh|twelfth"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth|thirtieth"
)
_CJK_NUMBER = "[0-9〇零一二三四五六七八九十元]{1,4}"

DATE_PATTERNS: tuple[re.Pattern[str], ...] = (
    re.compile(
        r"(?<![^\W_])\d{1,4}[-/._·|]\d{1,2}[-/._·|]\d{1,4}(?!\d)"
        r"|(?<!\d)\d{1,2}\s?[-/.·|]\s?\d{1,2}\s?[-/.·|]\s?\d{4}(?!\d)|(?<!\d)\d{4}\s?[-/.·|]\s?\d{1,2}\s?[-/.·|]\s?\d{1,2}(?!\d)"
        r"|(?<!\d)(?:19|20)\d\d[-/._ ]?(?:0[1-9]|1[0-2])[-/._ ]?(?:0[1-9]|[12]\d|3[01])(?!\d)"
        r"|(?<![\d.])(?:0?[1-9]|[12]\d|3[01]) (?:0?[1-9]|1[0-2]) (?:19|20)\d\d(?!\d)"
    ),
    re.compile(
        rf"{_CJK_NUMBER}\s?[年년]\s?(?:{_CJK_NUMBER}\s?[月월]|度|生|에|$|(?=\W))|{_CJK_NUMBER}\s?[月월]\s?{_CJK_NUMBER}\s?[日号號일]"
        r"|(?:明治|大正|昭和|平成|令和|民國|民国)\s?[0-9〇一二三四五六七八九十元]"
    ),
    re.compile(
        rf"(?<!\d){_DAY}(?:st|nd|rd|th|er|º|ª|ος|η)?{_GAP}{_OF}(?<![^\W\d_]){_MONTH}|(?<!\d){_DAY}{_MONTH}"
        rf"|(?<![^\W\d_]){_MONTH}{_GAP}{_OF}(?:\d{{1,2}}|\d{{4}})(?!\d)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<!\d){_DAY}[./ -]{{1,2}}(?:i{{1,3}}|iv|vi{{0,3}}|ix|xi{{0,2}})[./ -]{{1,2}}(?:\d{{4}}|\d\d)(?!\d)"
        rf"|(?<!\d){_DAY} (?:de )?ago\.? (?:de )?(?:19|20)\d\d|(?<!\d)\d{{1,2}}\s?\.\s?\d{{1,2}}\s?\.\s?\d\d(?!\d)"
        r"|(?<!\d)(?:18|19|20)\d\d(?:[/-](?:0?[1-9]|1[0-2])(?!\d)|\s?(?:год[ауы]?|г\.|року|рік)(?![^\W_]))"
        r"|(?<![^\W_])(?:dob|d\.o\.b\.?|birth ?date|date of birth|birthday)\W{0,3}\d",
        re.IGNORECASE,
    ),
    # 2021-W10-3; the third of March; nineteen ninety, twenty twenty-one
    re.compile(r"(?<!\d)(?:19|20)\d\d-?W(?:0[1-9]|[1-4]\d|5[0-3])"),
    re.compile(
        rf"(?<![^\W_])(?:{_ORDINAL})\s(?:day\s)?(?:of\s)?{_MONTH}|(?<![^\W\d_]){_MONTH}\s(?:the\s)?(?:{_ORDINAL})(?!\w)"
        rf"|(?<![^\W_])(?:eighteen|nineteen|twenty)[ -](?:{_TENS})(?![^\W_])|two thousand (?:and )?(?:{_ONES})(?!\w)",
        re.IGNORECASE,
    ),
    re.compile(rf"(?<![^\W_])(?:{_BORN})[^\d\n]{{0,12}}(?:18|19|20)\d\d(?!\d)", re.IGNORECASE),
    re.compile(rf"(?<!\d)(?:18|19|20)\d\d\s?(?:{_BORN}|г\.?\s?р(?:\.|ожд))", re.IGNORECASE),
)
