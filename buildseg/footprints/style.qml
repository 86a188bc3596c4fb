<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
 <renderer-v2 type="graduatedSymbol" attr="coalesce(&quot;confidence&quot;, 0)" graduatedMethod="GraduatedColor" symbollevels="0" enableorderby="0" forceraster="0">
  <ranges>
   <range symbol="0" lower="0" upper="0.6" label="below 60 %" render="true"/>
   <range symbol="1" lower="0.6" upper="0.7" label="60 to 70 %" render="true"/>
   <range symbol="2" lower="0.7" upper="0.8" label="70 to 80 %" render="true"/>
   <range symbol="3" lower="0.8" upper="0.9" label="80 to 90 %" render="true"/>
   <range symbol="4" lower="0.9" upper="1" label="90 to 100 %" render="true"/>
  </ranges>
  <symbols>
   <symbol type="fill" name="0" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="215,48,39,128"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="35,35,35,255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="0.26"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
      <Option type="QString" name="joinstyle" value="bevel"/>
     </Option>
    </layer>
   </symbol>
   <symbol type="fill" name="1" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="252,141,89,128"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="35,35,35,255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="0.26"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
      <Option type="QString" name="joinstyle" value="bevel"/>
     </Option>
    </layer>
   </symbol>
   <symbol type="fill" name="2" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="254,224,144,128"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="35,35,35,255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="0.26"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
      <Option type="QString" name="joinstyle" value="bevel"/>
     </Option>
    </layer>
   </symbol>
   <symbol type="fill" name="3" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="145,191,219,128"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="35,35,35,255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="0.26"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
      <Option type="QString" name="joinstyle" value="bevel"/>
     </Option>
    </layer>
   </symbol>
   <symbol type="fill" name="4" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option type="QString" name="color" value="69,117,180,128"/>
      <Option type="QString" name="style" value="solid"/>
      <Option type="QString" name="outline_color" value="35,35,35,255"/>
      <Option type="QString" name="outline_style" value="solid"/>
      <Option type="QString" name="outline_width" value="0.26"/>
      <Option type="QString" name="outline_width_unit" value="MM"/>
      <Option type="QString" name="joinstyle" value="bevel"/>
     </Option>
    </layer>
   </symbol>
  </symbols>
 </renderer-v2>
 <layerGeometryType>2</layerGeometryType>
 <pipe>
  <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" classificationMin="0" classificationMax="1">
   <rasterTransparency/>
   <rastershader>
    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1" labelPrecision="2">
      <item value="0" label="0" color="#000004" alpha="255"/>
      <item value="0.25" label="0.25" color="#57106e" alpha="255"/>
      <item value="0.5" label="0.5" color="#bc3754" alpha="255"/>
      <item value="0.75" label="0.75" color="#f98e09" alpha="255"/>
      <item value="1" label="1" color="#fcffa4" alpha="255"/>
    </colorrampshader>
   </rastershader>
  </rasterrenderer>
 </pipe>
 <blendMode>0</blendMode>
</qgis>
